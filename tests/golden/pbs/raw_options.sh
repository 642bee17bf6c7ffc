#!/bin/bash
cd /home/ada/.noria/jobs/1f2e || exit
exec /opt/noria/bin/python -m noria.jobs.launch /home/ada/.noria/jobs/1f2e 1
# qsub -f -N noria -v NORIA_TAG=noria-1f2e -r n -j oe -kdoe -o /home/ada/.noria/jobs/1f2e/logs/scheduler.log -l select=1:ncpus=4:mpiprocs=1:ompthreads=4:ngpus=1:mem=1024mb -q 'long queue' -- /bin/bash /home/ada/.noria/jobs/1f2e/job.sh
