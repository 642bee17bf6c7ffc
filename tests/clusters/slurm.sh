#!/bin/bash
# A real Slurm from nothing: 4 nodes with 4 CPUs and 2 GPUs each, which are only said to be there, and accounts in a MariaDB of its own.
. "$(dirname "$0")/hosts.sh"
machine n1 n2 n3 n4
mkdir -p /run/munge /run/mysql /run/slurm/state
chown munge: /run/munge
chown mysql: /run/mysql
chown slurm: /run/slurm /run/slurm/state

head -c 1024 /dev/urandom >/etc/munge/munge.key
chown munge: /etc/munge/munge.key
chmod 400 /etc/munge/munge.key
as munge munged --seed-file=/run/munge/seed --log-file=/run/munge/log --pid-file=/run/munge/pid

small="--no-defaults --user=mysql --datadir=/run/mysql/data --innodb-log-file-size=8M --innodb-buffer-pool-size=32M"
mariadb-install-db $small --auth-root-authentication-method=socket --skip-test-db --skip-log-bin >/run/mysql/install.log
mariadbd $small --socket=/run/mysql/socket --skip-networking --innodb-lock-wait-timeout=900 >/run/mysql/log 2>&1 </dev/null &
until_true mariadb-admin --socket=/run/mysql/socket ping
mariadb --socket=/run/mysql/socket -e "CREATE DATABASE slurm; CREATE USER slurm@localhost; GRANT ALL ON slurm.* TO slurm@localhost"

cat >/etc/slurm/slurmdbd.conf <<CONF
AuthType=auth/munge
DbdHost=login
SlurmUser=slurm
LogFile=/run/slurm/slurmdbd.log
PidFile=/run/slurm/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=slurm
StorageLoc=slurm
CONF
chown slurm: /etc/slurm/slurmdbd.conf
chmod 600 /etc/slurm/slurmdbd.conf

# What a site waits minutes for is done within seconds here, so that every path is walked: a lost node, a job that squeue forgot.
cat >/etc/slurm/slurm.conf <<CONF
ClusterName=noria
SlurmctldHost=login(10.77.0.1)
SlurmUser=slurm
AuthType=auth/munge
AuthInfo=cred_expire=5
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
ReturnToService=2
SlurmctldPidFile=/run/slurm/slurmctld.pid
SlurmctldLogFile=/run/slurm/slurmctld.log
StateSaveLocation=/run/slurm/state
SlurmdPidFile=/run/slurm/%n.pid
SlurmdLogFile=/run/slurm/%n.log
SlurmdSpoolDir=/run/slurm/%n
SlurmdParameters=config_overrides
SlurmdTimeout=20
KillWait=3
MinJobAge=20
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=2,sched_interval=2,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=100
GresTypes=gpu
JobRequeue=1
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=login
AccountingStorageTRES=gres/gpu
AccountingStorageEnforce=associations,limits,qos
AccountingStoreFlags=job_comment
$(for n in 1 2 3 4; do echo "NodeName=n$n NodeAddr=10.77.0.1$n CPUs=4 RealMemory=4000 Gres=gpu:2 State=UNKNOWN"; done)
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=main Nodes=n[1-4] Default=YES MaxTime=1-00:00:00 DefaultTime=10:00 State=UP PriorityTier=10 PreemptMode=OFF
PartitionName=low Nodes=n[1-4] MaxTime=1-00:00:00 DefaultTime=10:00 State=UP PriorityTier=1
CONF
for gpu in 0 1; do mknod -m 666 /run/slurm/gpu$gpu c 4 $((60 - gpu)); done # some device: nobody opens it
echo "Name=gpu File=/run/slurm/gpu[0-1]" >/etc/slurm/gres.conf
echo "CgroupPlugin=cgroup/v1" >/etc/slurm/cgroup.conf

export MYSQL_UNIX_PORT=/run/mysql/socket
as slurm slurmdbd
until_true sacctmgr -n show cluster
{
  sacctmgr -i add cluster noria
  sacctmgr -i add account research
  sacctmgr -i add user ada Account=research
} >/run/slurm/sacctmgr.log
as slurm slurmctld
for n in n1 n2 n3 n4; do mkdir -p /run/slurm/$n; on $n slurmd -N $n; done
registered() { [ "$(sacctmgr -nP show cluster noria format=ControlPort)" -gt 0 ]; } # before, records of jobs lack their names
idle() { [ "$(sinfo -hN -t idle -o %N | sort -u | wc -l)" = 4 ]; }
until_true registered
until_true idle
up
