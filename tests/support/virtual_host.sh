#!/usr/bin/env bash
# The first process of a virtual host; `unshare` has given it namespaces of its own, tests/virtual_hosts.py starts it.
#   virtual_host.sh NAME HOME_FILES
# It writes its process id, as it is seen from outside, and waits until the host is connected: for a line with sshd's config,
# or an empty one for a host without sshd. The host ends with this process, and this process when its standard input does.
set -euo pipefail
name=$1 files=$2
read -r pid _ </proc/self/stat

mount -t proc proc /proc
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/sshd

# Everything of the machine is there to be read; what is written stays in this host and vanishes with it.
for folder in "$HOME" /tmp; do
  layer=/run/layers$folder
  mkdir -p "$layer/upper" "$layer/work"
  chmod --reference="$folder" "$layer/upper"
  mount -t overlay overlay -o "lowerdir=$folder,upperdir=$layer/upper,workdir=$layer/work" "$folder"
done
rm -rf "$HOME"/{.aws,.ray,.ssh,.bashrc,.profile,.bash_profile,.bash_login,.config/pip,pfit-ray,pfit-ray-dist,configs} /tmp/ray
if test -d /etc/skel; then cp -rT /etc/skel "$HOME"; fi
cp -rT "$files" "$HOME"

hostname "$name"
echo "$pid"
read -r sshd_config
if test -n "$sshd_config"; then
  ssh-keygen -q -t ed25519 -N '' -f /run/sshd/key
  /usr/sbin/sshd -f "$sshd_config" -h /run/sshd/key
fi
echo up
while read -r _; do :; done
