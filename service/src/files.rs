//! How many files a process may have open: every connection is one.

use nix::{
    errno::Errno,
    sys::resource::{Resource, getrlimit, setrlimit},
};
use std::{io, os::fd::AsRawFd};

/// Files that connections of the public leave to the rest of the process, such as the event log, which can't go on without.
pub const RESERVED: u64 = 64;

/// Raises the limit of open files to what the system allows (the hard limit), and says how many that is.
pub fn raise_limit() -> io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(hard)
}

/// Whether there are `reserved` files left beside the one that was just opened. A new one gets the lowest number that is free
/// (POSIX, open(2)), so that its own says how many there are.
pub fn leaves(reserved: u64, opened: &impl AsRawFd) -> bool {
    let Ok((limit, _)) = getrlimit(Resource::RLIMIT_NOFILE) else { return true };
    let number = u64::try_from(opened.as_raw_fd()).unwrap_or(0);
    number + reserved.min(limit / 2) < limit
}

/// Whether an error says that no more files can be opened: EMFILE, by this process; ENFILE, by the whole system.
pub fn are_used_up(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(|code| code == Errno::EMFILE as i32 || code == Errno::ENFILE as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_lack_of_files_is_one() {
        let is = |errno: Errno| are_used_up(&io::Error::from(errno));
        assert_eq!([Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS].map(is), [true, true, false]);
    }

    #[test]
    fn a_file_near_the_limit_leaves_too_few() {
        struct Numbered(u64);
        impl AsRawFd for Numbered {
            fn as_raw_fd(&self) -> i32 {
                self.0 as i32
            }
        }
        let limit = raise_limit().unwrap();
        assert!(leaves(10, &Numbered(limit - 11)));
        assert!(!leaves(10, &Numbered(limit - 10)));
        assert!(leaves(u64::MAX, &Numbered(3)), "half of them are for connections");
    }

    #[test]
    fn the_limit_is_raised_to_the_hard_one() {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        assert_eq!(raise_limit().unwrap(), hard);
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap(), (hard, hard));
    }
}
