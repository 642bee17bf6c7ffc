#!/bin/bash
#SBATCH --job-name=resnet
#SBATCH --comment=noria-1f2e
#SBATCH --output=/home/ada/.noria/jobs/1f2e/logs/scheduler.log
#SBATCH --open-mode=append
#SBATCH --no-requeue
#SBATCH --export=NONE
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --gres=gpu:2
#SBATCH --mem=10241M
#SBATCH --time=25:01:01
unset SLURM_EXPORT_ENV  # --export=NONE would leave srun without PATH
cd /home/ada/.noria/jobs/1f2e || exit
exec srun --nodes=2 --ntasks=2 --ntasks-per-node=1 --cpus-per-task=8 --kill-on-bad-exit=0 --wait=0 /opt/noria/bin/python -m noria.jobs.launch /home/ada/.noria/jobs/1f2e 1
# sbatch --parsable /home/ada/.noria/jobs/1f2e/job.sh
