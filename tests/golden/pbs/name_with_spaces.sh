#!/bin/bash
cd '/home/ada l/my jobs/1f2e' || exit
exec /opt/noria/bin/python -m noria.jobs.launch '/home/ada l/my jobs/1f2e' 1
# qsub -f -N big_jobs_100_mi -v NORIA_TAG=noria-1f2e -r n -j oe -kdoe -o '/home/ada l/my jobs/1f2e/logs/scheduler.log' -l select=1:ncpus=2:mpiprocs=1:ompthreads=2 -l walltime=00:01:00 -- /bin/bash '/home/ada l/my jobs/1f2e/job.sh'
