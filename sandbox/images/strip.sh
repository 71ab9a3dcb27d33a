# Takes out of a root file system what no program needs: documents, caches, and everything with a setuid or setgid bit.
root=${1%/}
rm -rf "$root"/usr/share/doc "$root"/usr/share/man "$root"/usr/share/info "$root"/usr/share/locale "$root"/usr/share/lintian
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/archives/*.deb "$root"/var/cache/apt/*.bin "$root"/var/log/*
find "$root/" -xdev -type f -perm /6000 -exec chmod ug-s {} +
find "$root/" -xdev -type d -perm -o+w ! -path "$root/tmp" ! -path "$root/proc/*" -exec chmod o-w {} +
mkdir -p "$root/tmp" "$root/dev/shm" "$root/dev/mqueue" "$root/control" "$root/proc" "$root/sys"
chmod 1777 "$root/tmp"
