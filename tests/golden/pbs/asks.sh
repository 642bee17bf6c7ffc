#!/bin/bash
cd /home/ada/.noria/jobs/1f2e || exit
exec /opt/noria/bin/python -m noria.jobs.launch /home/ada/.noria/jobs/1f2e 1
# qsub -f -N noria -v NORIA_TAG=noria-1f2e -r n -j oe -kdoe -o /home/ada/.noria/jobs/1f2e/logs/scheduler.log -l select=1:ncpus=2:mpiprocs=1:ompthreads=2:ngpus=2:gpu_type=a100:cpu_type=milan -l place=exclhost -q gpu -A vision -p -100 -a 202512011440.00 -- /bin/bash /home/ada/.noria/jobs/1f2e/job.sh
