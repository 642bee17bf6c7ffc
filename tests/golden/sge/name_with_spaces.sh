#!/bin/bash
#$ -S /bin/bash
#$ -N big_jobs_100_mine.noria-1f2e
#$ -o "/home/ada l/my jobs/1f2e/logs/scheduler.log"
#$ -j y
#$ -r n
#$ -notify
#$ -l h_rt=60
#$ -pe smp 2
cd '/home/ada l/my jobs/1f2e' || exit
exec /opt/noria/bin/python -m noria.jobs.launch '/home/ada l/my jobs/1f2e' 1
# qsub -terse '/home/ada l/my jobs/1f2e/job.sh'
