"""The writable file systems of the box. They are emptied after each program that touched them; if that fails, the box ends."""

from __future__ import annotations

import os
import stat
import time


class ScratchFolders:
    """Checks each folder after a run.

    One that is as it was (no inode, no block used, no time stamp moved) costs four
    system calls; any other is emptied, its time stamps set back, and compared again.
    """

    def __init__(self, folders: list[str]) -> None:
        self.folders = folders
        self.clean: dict[str, tuple[int, ...]] = {}
        for folder in folders:
            self._reset(folder)

    @staticmethod
    def _look(folder: str) -> tuple[int, ...]:
        space, node = os.statvfs(folder), os.stat(folder)
        return (space.f_ffree, space.f_bfree, node.st_mode, node.st_uid, node.st_mtime_ns, node.st_ctime_ns)

    def _reset(self, folder: str) -> None:
        os.chmod(folder, 0o1777)
        os.utime(folder, (0, 0))
        self.clean[folder] = self._look(folder)

    def wipe(self) -> None:
        """Empty the folders.

        Raises:
            OSError: one of them can't be brought back to what it was.
        """
        for folder in self.folders:
            before, now = self.clean[folder], self._look(folder)
            if now == before:
                continue
            if now[2:4] != before[2:4] or os.listxattr(folder):
                raise OSError(f"{folder} changed its mode, owner or attributes")
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                empty(descriptor)
            finally:
                os.close(descriptor)
            self._reset(folder)
            if self.clean[folder][:2] != before[:2]:
                raise OSError(f"{folder} can't be emptied")


def empty(root: int) -> None:
    """Remove everything below an open directory.

    Breadth first: a folder's folders are moved up to the root before it is
    removed, so that neither depth nor long paths nor descriptors matter. Modes set to forbid it are set back.
    """
    lifted = 0
    while True:
        folders = []
        for name in os.listdir(root):
            if stat.S_ISDIR(os.stat(name, dir_fd=root, follow_symlinks=False).st_mode):
                folders.append(name)
            else:
                os.unlink(name, dir_fd=root)
        if not folders:
            return
        for name in folders:
            try:
                os.rmdir(name, dir_fd=root)
                continue
            except OSError:
                os.chmod(name, 0o700, dir_fd=root)
            here = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=root)
            try:
                for inner in os.listdir(here):
                    if stat.S_ISDIR(os.stat(inner, dir_fd=here, follow_symlinks=False).st_mode):
                        lifted += 1
                        os.chmod(inner, 0o700, dir_fd=here)
                        os.rename(inner, f".{time.monotonic_ns()}-{lifted}", src_dir_fd=here, dst_dir_fd=root)
                    else:
                        os.unlink(inner, dir_fd=here)
            finally:
                os.close(here)
            os.rmdir(name, dir_fd=root)
