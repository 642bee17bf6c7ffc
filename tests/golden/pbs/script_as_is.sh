#!/bin/bash
cd /home/ada/.noria/jobs/1f2e || exit
exec /opt/noria/bin/python -m noria.jobs.launch /home/ada/.noria/jobs/1f2e 1
# qsub -f -N old -v NORIA_TAG=noria-1f2e -r n -j oe -kdoe -o /home/ada/.noria/jobs/1f2e/logs/scheduler.log -l 'x y' -- /bin/bash /home/ada/.noria/jobs/1f2e/job.sh
