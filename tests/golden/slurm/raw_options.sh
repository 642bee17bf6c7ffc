#!/bin/bash
#SBATCH --job-name=noria-1f2e
#SBATCH --comment=noria-1f2e
#SBATCH --output=/home/ada/.noria/jobs/1f2e/logs/scheduler.log
#SBATCH --open-mode=append
#SBATCH --no-requeue
#SBATCH --export=NONE
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=4
#SBATCH --gres=gpu:1
#SBATCH --mem=1024M
unset SLURM_EXPORT_ENV  # --export=NONE would leave srun without PATH
cd /home/ada/.noria/jobs/1f2e || exit
exec /opt/noria/bin/python -m noria.jobs.launch /home/ada/.noria/jobs/1f2e 1
# sbatch --parsable -q 'long queue' /home/ada/.noria/jobs/1f2e/job.sh
