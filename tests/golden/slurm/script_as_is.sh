#!/bin/bash
#SBATCH --job-name=old
#SBATCH --comment=noria-1f2e
#SBATCH --output=/home/ada/.noria/jobs/1f2e/logs/scheduler.log
#SBATCH --open-mode=append
#SBATCH --no-requeue
#SBATCH --export=NONE
unset SLURM_EXPORT_ENV  # --export=NONE would leave srun without PATH
cd /home/ada/.noria/jobs/1f2e || exit
exec /opt/noria/bin/python -m noria.jobs.launch /home/ada/.noria/jobs/1f2e 1
# sbatch --parsable -l 'x y' /home/ada/.noria/jobs/1f2e/job.sh
