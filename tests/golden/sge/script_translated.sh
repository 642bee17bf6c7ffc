#!/bin/bash
#$ -S /bin/bash
#$ -N old.noria-1f2e
#$ -o "/home/ada/.noria/jobs/1f2e/logs/scheduler.log"
#$ -j y
#$ -r n
#$ -notify
#$ -l h_rt=60
#$ -pe mpi 8
cd /home/ada/.noria/jobs/1f2e || exit
exec /opt/noria/bin/python -m noria.jobs.launch /home/ada/.noria/jobs/1f2e 1
# qsub -terse /home/ada/.noria/jobs/1f2e/job.sh
