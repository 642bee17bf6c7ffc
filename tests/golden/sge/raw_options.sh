#!/bin/bash
#$ -S /bin/bash
#$ -N noria-1f2e
#$ -o "/home/ada/.noria/jobs/1f2e/logs/scheduler.log"
#$ -j y
#$ -r n
#$ -notify
#$ -l gpu=0.25
#$ -l virtual_free=256M
#$ -pe smp 4
cd /home/ada/.noria/jobs/1f2e || exit
exec /opt/noria/bin/python -m noria.jobs.launch /home/ada/.noria/jobs/1f2e 1
# qsub -terse -q 'long queue' /home/ada/.noria/jobs/1f2e/job.sh
