#!/usr/bin/env bash
# A real S3 server on loopback: Ceph's RADOS gateway over one monitor and one in-memory object store.
#
#   ceph.sh start DIR    start it unless it runs; DIR/env then holds ENDPOINT, ACCESS_KEY, SECRET_KEY, BUCKET
#   ceph.sh stop DIR     stop it and remove its files
#
# Ready in about two seconds, 215 MB. Whoever uses it holds a shared lock on DIR.users; when nobody has for a minute it
# stops by itself, so a test run that is killed leaves nothing behind.
#
# What the settings are for:
#   auth_* = none, ms_mon_client_mode = crc   no cluster keys; radosgw would otherwise ask for `secure` mode and hang
#   paxos_propose_interval                    the monitor otherwise waits a second before every map change
#   tcp_nodelay=1                             2 ms a request instead of 44
#   rgw_crypt_require_ssl                     keys of customers are taken without TLS
#   rgw_gc_*, rgw_override_bucket_index_*     a deleted object's memory comes back; one index shard is enough
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
verb=${1:?start or stop} dir=${2:?directory}
PATH="$PATH:/usr/sbin:/usr/bin"
ACCESS_KEY=holdfasttest SECRET_KEY=holdfast-test-secret BUCKET=holdfast

alive() {
  local name
  for name in mon osd rgw; do
    [ -s "$dir/$name.pid" ] && kill -0 "$(cat "$dir/$name.pid")" 2>/dev/null || return 1
  done
}

stop() {
  local name
  for name in rgw osd mon watch; do
    [ -s "$dir/$name.pid" ] && [ "$(cat "$dir/$name.pid")" != "$$" ] && kill -KILL "$(cat "$dir/$name.pid")" 2>/dev/null || true
  done
  rm -rf "$dir"
}

free_port() {
  local port
  while :; do
    port=$((20000 + RANDOM % 10000))
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; return; }
  done
}

# retry SECONDS COMMAND...
retry() {
  local until=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$until" ] || { echo "ceph.sh: gave up: $*" >&2; return 1; }
    sleep 0.1
  done
}

daemon() {
  local name=$1
  shift
  setsid "$@" </dev/null >"$dir/log/$name.out" 2>&1 9>&- &
  echo $! >"$dir/$name.pid"
}

configure() {
  cat >"$dir/ceph.conf" <<CONF
[global]
fsid = $fsid
mon_initial_members = a
mon_host = [v2:127.0.0.1:$mon_port/0]
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
auth_allow_insecure_global_id_reclaim = false
ms_bind_ipv4 = true
ms_bind_ipv6 = false
ms_mon_client_mode = crc
public_network = 127.0.0.0/8
cluster_network = 127.0.0.0/8
run_dir = $dir/run
admin_socket = $dir/run/\$name.\$pid.asok
log_file = $dir/log/\$name.log
pid_file = $dir/run/\$name.pid
mon_data = $dir/mon
osd_data = $dir/osd
mon_data_avail_warn = 1
mon_data_avail_crit = 1
mon_allow_pool_size_one = true
mon_max_pg_per_osd = 1000
mon_tick_interval = 1
mon_client_hunt_interval = 0.3
paxos_propose_interval = 0.05
paxos_min_wait = 0.01
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 8
osd_pool_default_pgp_num = 8
osd_crush_chooseleaf_type = 0
osd_crush_update_on_start = false
osd_class_update_on_start = false
osd_objectstore = memstore
osd_max_object_name_len = 460
memstore_device_bytes = 2147483648
mgr_pool = false
[mon.a]
host = localhost
mon_addr = 127.0.0.1:$mon_port
[client.rgw]
rgw_frontends = beast endpoint=127.0.0.1:$rgw_port tcp_nodelay=1
rgw_data = $dir/run
rgw_enable_usage_log = false
rgw_gc_obj_min_wait = 5
rgw_gc_processor_period = 10
rgw_max_objs_per_shard = 100000
rgw_override_bucket_index_max_shards = 1
rgw_crypt_require_ssl = false
CONF
}

start() {
  stop
  mkdir -p "$dir"/{mon,osd,run,log}
  fsid=$(cat /proc/sys/kernel/random/uuid)
  rgw_port=$(free_port) mon_port=$(free_port)
  configure
  export CEPH_CONF=$dir/ceph.conf
  monmaptool --create --clobber --fsid "$fsid" --addv a "[v2:127.0.0.1:$mon_port]" "$dir/monmap" >/dev/null
  ceph-mon -i a --mkfs --monmap "$dir/monmap"
  daemon mon ceph-mon -i a -f
  retry 30 ceph --connect-timeout 1 -s
  ceph osd create >/dev/null
  ceph-osd -i 0 --mkfs >/dev/null 2>&1
  ceph osd crush add osd.0 1.0 host=localhost root=default >/dev/null 2>&1
  daemon osd ceph-osd -i 0 -f
  retry 30 sh -c 'ceph osd stat | grep -q "1 up"'
  timeout 60 radosgw-admin -n client.rgw user create --uid t --display-name t \
    --access-key "$ACCESS_KEY" --secret-key "$SECRET_KEY" >"$dir/log/user.out" 2>&1
  daemon rgw radosgw -n client.rgw -f
  retry 30 bash -c "exec 3<>/dev/tcp/127.0.0.1/$rgw_port"
  retry 30 python3 "$here/make_bucket.py" "http://127.0.0.1:$rgw_port" "$ACCESS_KEY" "$SECRET_KEY" "$BUCKET"
  daemon watch "$here/ceph.sh" watch "$dir"
  printf '%s\n' "ENDPOINT=http://127.0.0.1:$rgw_port" "ACCESS_KEY=$ACCESS_KEY" "SECRET_KEY=$SECRET_KEY" "BUCKET=$BUCKET" >"$dir/env.new"
  mv "$dir/env.new" "$dir/env"
}

# Nobody may hold the shared lock at ten looks, six seconds apart.
watch() {
  local idle=0
  while [ "$idle" -lt 10 ]; do
    sleep 6
    [ -d "$dir" ] || exit 0
    if flock --nonblock --exclusive "$dir.users" true; then idle=$((idle + 1)); else idle=0; fi
  done
  stop
}

mkdir -p "$(dirname "$dir")"
dir=$(cd "$(dirname "$dir")" && pwd)/$(basename "$dir")
case $verb in
  start)
    exec 9>"$dir.lock"
    flock 9
    [ -f "$dir/env" ] && alive || start
    ;;
  stop) stop ;;
  watch) watch ;;
  *) echo "ceph.sh: start or stop, not $verb" >&2; exit 64 ;;
esac
