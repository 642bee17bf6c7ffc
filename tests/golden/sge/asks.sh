#!/bin/bash
#$ -S /bin/bash
#$ -N noria-1f2e
#$ -o "/home/ada/.noria/jobs/1f2e/logs/scheduler.log"
#$ -j y
#$ -r n
#$ -notify
#$ -l gpu=1
#$ -l gpu_type=a100
#$ -l exclusive=true
#$ -l cpu_type=milan
#$ -pe smp 2
#$ -q gpu
#$ -P vision
#$ -p -100
#$ -a 202512011440.00
cd /home/ada/.noria/jobs/1f2e || exit
exec /opt/noria/bin/python -m noria.jobs.launch /home/ada/.noria/jobs/1f2e 1
# qsub -terse /home/ada/.noria/jobs/1f2e/job.sh
