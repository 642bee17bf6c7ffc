#!/bin/bash
#$ -S /bin/bash
#$ -N resnet.noria-1f2e
#$ -o "/home/ada/.noria/jobs/1f2e/logs/scheduler.log"
#$ -j y
#$ -r n
#$ -notify
#$ -l gpu=0.25
#$ -l virtual_free=1281M
#$ -l h_rt=90061
#$ -pe mpi 16
cd /home/ada/.noria/jobs/1f2e || exit
hosts=$(awk '!seen[$1]++ { print $1 }' "$PE_HOSTFILE")
if [ "$(echo $hosts | wc -w)" -ne 2 ]; then
  echo "Noria: asked for 2 nodes, got: $hosts. Name a parallel environment whose allocation_rule is 8 as pe in the profile (qconf -spl, qconf -sp)." >&2
  exit 78
fi
nodes=$(echo $hosts | tr ' ' ',')
trap : TERM USR1 USR2
rank=0 pids=
for host in $hosts; do
  if [ "$rank" -eq 0 ]; then
    NORIA_NODES="$nodes" NORIA_NODE_RANK=0 /opt/noria/bin/python -m noria.jobs.launch /home/ada/.noria/jobs/1f2e 1 &
  else
    qrsh -inherit -nostdin "$host" env NORIA_NODES="$nodes" NORIA_NODE_RANK="$rank" /opt/noria/bin/python -m noria.jobs.launch /home/ada/.noria/jobs/1f2e 1 &
  fi
  pids="$pids $!" rank=$((rank + 1))
done
worst=0
for pid in $pids; do
  wait "$pid"; code=$?
  while kill -0 "$pid" 2>/dev/null; do wait "$pid"; code=$?; done  # a signal ends a wait early
  if [ "$code" -gt "$worst" ]; then worst=$code; fi
done
exit "$worst"
# qsub -terse /home/ada/.noria/jobs/1f2e/job.sh
