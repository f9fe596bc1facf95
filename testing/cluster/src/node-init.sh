#!/bin/bash
# Process 1 of a node: gives it folders and kernel settings of its own, then runs its parts and starts them again when they end,
# as an init system would. When this process is killed, the kernel ends everything below it: the power cut of a node.
#
# NODE      folder of the node           PROGRAMS  folder with kubelet, kube-proxy, fake-device-plugin
# IMAGES    folder with archives         GPUS      ids of simulated GPUs, or empty
# NAME, ADDRESS, KUBELET_KUBECONFIG
set -uo pipefail

# Mounts made here reach the pods and nothing outside.
mount --make-rprivate / && mount --make-rshared / || exit 1

bind() {
  mkdir -p "$NODE/$1" "$2" && mount --bind "$NODE/$1" "$2" || exit 1
}
bind kubelet /var/lib/kubelet
bind containerd /var/lib/containerd
bind run /run/containerd
bind logs/pods /var/log/pods
bind logs/containers /var/log/containers
bind cni /var/lib/cni
bind cni-configuration /etc/cni/net.d
if [[ -n "$GPUS" ]]; then
  bind driver /run/nvidia/driver
fi

# The kubelet writes these, and they are the machine's, not the namespace's: it gets copies.
for file in vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops kernel/keys/root_maxkeys kernel/keys/root_maxbytes; do
  copy="$NODE/kernel/${file//\//-}"
  mkdir -p "$NODE/kernel" && cat "/proc/sys/$file" >"$copy" && mount --bind "$copy" "/proc/sys/$file" || exit 1
done

keep() {
  local name=$1
  shift
  while true; do
    "$@" >>"$NODE/logs/$name.log" 2>&1
    echo "== $name ended with status $?; starting it again" >>"$NODE/logs/$name.log"
    sleep 0.5
  done
}

keep containerd containerd --config "$NODE/containerd.toml" &
for _ in {1..600}; do
  ctr --timeout 1s version >/dev/null 2>&1 && break
  sleep 0.05
done
for archive in "$IMAGES"/*.tar; do
  ctr --namespace k8s.io images import "$archive" >>"$NODE/logs/images.log" 2>&1 || exit 1
done
keep kubelet "$PROGRAMS/kubelet" --config="$NODE/kubelet.json" --kubeconfig="$KUBELET_KUBECONFIG" \
  --hostname-override="$NAME" --node-ip="$ADDRESS" --root-dir=/var/lib/kubelet &
keep kube-proxy "$PROGRAMS/kube-proxy" --config="$NODE/kube-proxy.json" --hostname-override="$NAME" &
if [[ -n "$GPUS" ]]; then
  # shellcheck disable=SC2086 # one argument per GPU
  keep device-plugin "$PROGRAMS/fake-device-plugin" /var/lib/kubelet/device-plugins $GPUS &
fi
wait
