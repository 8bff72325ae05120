//! The file system a database lies on: what it is, what is free. Asks the kernel, writes nothing.

use std::io;
use std::path::{Path, PathBuf};

use nix::libc;
use nix::sys::statfs::{FsType, statfs};
use nix::sys::statvfs::{FsFlags, statvfs};

/// What `statfs` says of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// `ext4`, `nfs`; a number in hexadecimal for what is not in our table.
    pub name: String,
    pub kind: Kind,
    /// Bytes that may be written without privileges.
    pub free: u64,
    pub read_only: bool,
}

/// Where the bytes are, as far as a database has to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A disk of this machine, or one that behaves like it.
    Local,
    /// On other machines, too: SQLite's WAL needs memory that all of its users share (sqlite.org/wal.html §7).
    Network,
    /// A file system of a program or of the host; whether locks and shared memory work is up to that.
    Foreign,
    /// The writable layer of a container, which goes with it.
    Layer,
    /// Memory, which goes with the machine.
    Memory,
}

impl Volume {
    /// The volume `path` is on, or would be: of the nearest directory that exists.
    pub fn of(path: &Path) -> io::Result<Self> {
        let mut at = PathBuf::from(path);
        while !at.exists() && at.pop() {}
        let (stat, more) = (statfs(&at)?, statvfs(&at)?);
        let (name, kind) = named(stat.filesystem_type());
        Ok(Self {
            name,
            kind,
            free: more.blocks_available().saturating_mul(more.fragment_size()),
            read_only: more.flags().contains(FsFlags::ST_RDONLY),
        })
    }
}

fn named(found: FsType) -> (String, Kind) {
    let number = found.0 as u32;
    let row = NAMES.iter().find(|(magic, ..)| *magic as u32 == number);
    row.map_or_else(|| (format!("0x{number:x}"), Kind::Local), |(_, name, kind)| ((*name).to_owned(), *kind))
}

/// From `statfs(2)` and `linux/magic.h`.
const NAMES: [(libc::c_long, &str, Kind); 20] = [
    (libc::EXT4_SUPER_MAGIC, "ext4", Kind::Local),
    (libc::XFS_SUPER_MAGIC, "xfs", Kind::Local),
    (libc::BTRFS_SUPER_MAGIC, "btrfs", Kind::Local),
    (libc::F2FS_SUPER_MAGIC, "f2fs", Kind::Local),
    (0x2fc1_2fc1, "zfs", Kind::Local),
    (0xca45_1a4e, "bcachefs", Kind::Local),
    (libc::OVERLAYFS_SUPER_MAGIC, "overlayfs", Kind::Layer),
    (0x6175_6673, "aufs", Kind::Layer),
    (libc::TMPFS_MAGIC, "tmpfs", Kind::Memory),
    (0x8584_58f6, "ramfs", Kind::Memory),
    (libc::FUSE_SUPER_MAGIC, "fuse", Kind::Foreign),
    (0x0102_1997, "9p", Kind::Foreign),
    (libc::NFS_SUPER_MAGIC, "nfs", Kind::Network),
    (libc::SMB_SUPER_MAGIC, "smb", Kind::Network),
    (0xff53_4d42, "cifs", Kind::Network),
    (0xfe53_4d42, "smb2", Kind::Network),
    (libc::AFS_SUPER_MAGIC, "afs", Kind::Network),
    (libc::CODA_SUPER_MAGIC, "coda", Kind::Network),
    (0x00c3_6400, "ceph", Kind::Network),
    (0x0bd0_0bd0, "lustre", Kind::Network),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_told_from_a_disk_by_its_number() {
        let kind = |magic| named(FsType(magic));
        assert_eq!(kind(0x6969), ("nfs".into(), Kind::Network));
        assert_eq!(kind(0xff53_4d42), ("cifs".into(), Kind::Network));
        assert_eq!(kind(0xef53), ("ext4".into(), Kind::Local));
        assert_eq!(kind(0x1234_5678), ("0x12345678".into(), Kind::Local));
    }

    #[test]
    fn the_volume_of_what_does_not_exist_is_its_directorys() {
        let dir = tempfile::tempdir().unwrap();
        let (here, below) =
            (Volume::of(dir.path()).unwrap(), Volume::of(&dir.path().join("no/such/file")).unwrap());
        assert_eq!((below.name, below.kind), (here.name, here.kind));
        assert!(below.free > 0 && !below.read_only);
        assert_eq!(Volume::of(Path::new("/dev/shm")).map(|v| v.kind).ok(), Some(Kind::Memory));
    }
}
