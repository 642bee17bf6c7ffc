#!/bin/bash
cd /home/ada/.noria/jobs/1f2e || exit
if [ -r /etc/pbs.conf ]; then . /etc/pbs.conf; PATH="$PATH:$PBS_EXEC/bin"; fi
hosts=$(awk '!seen[$1]++ { print $1 }' "$PBS_NODEFILE")
if [ "$(echo $hosts | wc -w)" -ne 2 ]; then
  echo "Noria: asked for 2 nodes, got: $hosts. Ask the site about place=scatter." >&2
  exit 78
fi
nodes=$(echo $hosts | tr ' ' ',')
trap : TERM USR1 USR2
rank=0 pids=
for host in $hosts; do
  if [ "$rank" -eq 0 ]; then
    NORIA_NODES="$nodes" NORIA_NODE_RANK=0 /opt/noria/bin/python -m noria.jobs.launch /home/ada/.noria/jobs/1f2e 1 &
  else
    pbs_tmrsh "$host" env NORIA_NODES="$nodes" NORIA_NODE_RANK="$rank" /opt/noria/bin/python -m noria.jobs.launch /home/ada/.noria/jobs/1f2e 1 &
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
# qsub -f -N resnet -v NORIA_TAG=noria-1f2e -r n -j oe -kdoe -o /home/ada/.noria/jobs/1f2e/logs/scheduler.log -l select=2:ncpus=8:mpiprocs=2:ompthreads=4:ngpus=2:mem=10241mb -l place=scatter -l walltime=25:01:01 -- /bin/bash /home/ada/.noria/jobs/1f2e/job.sh
