#!/bin/bash
# A real Grid Engine from nothing: a master and 2 execution hosts with 8 slots and 2 GPUs each, which are only said to be there.
. "$(dirname "$0")/hosts.sh"
hosts="sge1 sge2"
machine $hosts
export SGE_ROOT=/var/lib/gridengine SGE_CELL=default
cell=$SGE_ROOT/$SGE_CELL/common spool=/var/spool/gridengine
copied $SGE_ROOT
mount -t tmpfs tmpfs $spool
rm -rf "${cell:?}"
mkdir -p /run/sge $cell $spool/spooldb $spool/qmaster/job_scripts $spool/execd
install -m 644 /usr/share/gridengine/default-bootstrap $cell/bootstrap
echo login >$cell/act_qmaster
chown -R sgeadmin: /run/sge $SGE_ROOT/$SGE_CELL $spool
as sgeadmin /usr/share/gridengine/scripts/init_cluster $SGE_ROOT $SGE_CELL $spool/spooldb sgeadmin >/run/init.log
sge_qmaster
conf() { as sgeadmin qconf "$@" >>/run/qconf.log; }
until_true conf -sh

# Everything is told to qconf in files. "set FILE NAME VALUE..." changes fields of one.
cd "$(mktemp -d)"
chmod 755 .
set_() {
  local file=$1
  shift
  while [ $# -gt 0 ]; do
    sed -i -E "s|^($1 +).*|\1$2|" "$file"
    shift 2
  done
}
shown() { as sgeadmin qconf "$@"; }

conf -as login
shown -sc | grep -vE '^(#|virtual_free )' >complexes
echo 'gpu gpu INT <= YES YES 0 0
virtual_free vf MEMORY <= YES YES 0 0' >>complexes
conf -Mc complexes
shown -ssconf >scheduler
set_ scheduler schedule_interval 0:0:2 flush_submit_sec 1 flush_finish_sec 1 schedd_job_info true
conf -Msconf scheduler
shown -sconf global >global
set_ global load_report_time 00:00:02 max_unheard 00:00:12 reschedule_unknown 00:00:10 shell_start_mode unix_behavior \
  execd_params ENABLE_ADDGRP_KILL=true
sed -i 's/flush_time=00:00:15/flush_time=00:00:01 accounting_flush_time=00:00:00/' global
conf -Mconf global

printf 'group_name @allhosts\nhostlist %s\n' "$hosts" >group
first_gid=63000 # A kill looks for a job's additional group id, and on one kernel those of several hosts must differ.
for host in $hosts; do
  printf '%s\n' "hostname $host" "load_scaling NONE" "complex_values slots=8,gpu=2,virtual_free=4G" "user_lists NONE" "xuser_lists NONE" \
    "projects NONE" "xprojects NONE" "usage_scaling NONE" "report_variables NONE" >execution-host
  conf -Ae execution-host
  conf -ah $host
  echo "gid_range $first_gid-$((first_gid + 99))" >$host
  conf -Aconf $host
  first_gid=$((first_gid + 100))
done
conf -Ahgrp group

environment() { # NAME ALLOCATION_RULE
  printf '%s\n' "pe_name $1" "slots 999" "user_lists NONE" "xuser_lists NONE" "start_proc_args NONE" "stop_proc_args NONE" \
    "allocation_rule $2" "control_slaves TRUE" "job_is_first_task FALSE" "urgency_slots min" "accounting_summary TRUE" "qsort_args NONE" >environment
  conf -Ap environment
}
environment smp '$pe_slots'
environment mpi '$fill_up'
for per in 1 2 8; do environment per$per $per; done
shown -sq >queue
set_ queue qname all.q hostlist @allhosts pe_list "smp mpi per1 per2 per8" slots 8 shell /bin/bash shell_start_mode unix_behavior \
  notify 00:00:05 load_thresholds NONE
conf -Aq queue
cd /

for host in $hosts; do # A job inherits what its execd was started with.
  on $host env -i PATH=$PATH SGE_ROOT=$SGE_ROOT SGE_CELL=$SGE_CELL SGE_EXECD_PIDFILE=/run/sge/$host.pid sge_execd
done
here() { [ "$(qhost | grep -cE '^sge[12] +lx-amd64')" = 2 ]; }
until_true here
up
