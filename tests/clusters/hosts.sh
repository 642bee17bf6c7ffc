# Sourced by slurm.sh and sge.sh. cluster.py starts those as the first process of namespaces of their own (mounts, processes, network,
# host name): what they mount, write below /etc and start is seen by nobody else, and gone when they end, however they end.
set -euo pipefail
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
HOME_BEHIND=$1 # the folder that is the user's home here
shift          # what else the user must be able to read: the checkout and its Python

copied() { # in memory, a copy of what lies there
  for folder in "$@"; do
    mount -t tmpfs -o mode=755 tmpfs /mnt
    cp -a "$folder/." /mnt/
    mount --move /mnt "$folder"
  done
}

readable() { # paths behind folders that only root may enter are laid into empty ones that everybody may enter
  local path folder
  for path in "$@"; do
    mkdir -p "/run/kept$path"
    mount --bind "$path" "/run/kept$path"
  done
  for path in "$@"; do
    folder=
    for part in $(dirname "$path" | tr / ' '); do
      folder=$folder/$part
      case $(stat -c %A "$folder") in *x | *t) ;; *) mount -t tmpfs -o mode=755 tmpfs "$folder" && break ;; esac
    done
    mkdir -p "$path"
    mount --bind "/run/kept$path" "$path"
  done
}

machine() { # NAME...: a network and a host name for each; this shell is "login", where people work and the master runs
  local name last=10
  hostname login
  printf '127.0.0.1 localhost\n10.77.0.1 login\n' >/etc/hosts
  ip link set lo up
  ip link add br0 type bridge
  ip addr add 10.77.0.1/24 dev br0
  ip link set br0 up
  for name in "$@"; do
    last=$((last + 1))
    echo "10.77.0.$last $name" >>/etc/hosts
    ip netns add "$name"
    ip link add "to-$name" type veth peer name eth0 netns "$name"
    ip link set "to-$name" master br0 up
    ip -n "$name" addr add "10.77.0.$last/24" dev eth0
    ip -n "$name" link set eth0 up
    ip -n "$name" link set lo up
    # As on many machines, another network with the same address everywhere, which leads nowhere.
    ip -n "$name" link add docker0 type bridge
    ip -n "$name" addr add 172.17.0.1/16 dev docker0
    ip -n "$name" link set docker0 up
  done
}

on() { # NAME COMMAND...: run there
  local name=$1
  shift
  ip netns exec "$name" unshare --uts sh -c 'hostname "$0"; exec "$@"' "$name" "$@"
}

as() { # USER COMMAND...
  local user=$1
  shift
  setpriv --reuid="$user" --regid="$user" --init-groups "$@"
}

until_true() { # COMMAND...: a start that takes longer than 30 s has failed
  for _ in $(seq 300); do "$@" >/dev/null 2>&1 && return; sleep 0.1; done
  echo "not within 30 s: $*" >&2
  return 1
}

up() { # say so, and stay as long as the test session holds our standard input open
  echo up
  cat >/dev/null
}

mount -t tmpfs -o mode=755 tmpfs /run
copied /etc
rm -rf /etc/netns # which ip would lay over it
readable "$@"
mount -t tmpfs -o mode=755 tmpfs /home
sed -i '/^ada:/d' /etc/passwd /etc/shadow /etc/group /etc/gshadow # A person of that name on this machine is not the one here.
useradd --create-home --shell /bin/bash ada
chown ada: "$HOME_BEHIND"
mount --bind "$HOME_BEHIND" /home/ada
