//! Notices that the configuration should be read again: SIGHUP, or the file's text changed.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{signal::unix::Signal, time::MissedTickBehavior};

/// How often the file is looked at. A change takes effect with the second look that finds it.
const LOOK_INTERVAL: Duration = Duration::from_millis(400);

/// Why the configuration should be read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// SIGHUP.
    Hangup,
    /// The file has another text. Looks also see files that are swapped by links, as orchestrators do, which file
    /// events miss.
    File,
}

/// Watches for reasons to read the configuration again.
#[derive(Debug)]
pub struct FileWatch {
    hangup: Signal,
    file: Option<File>,
    period: tokio::time::Interval,
}

/// The file, and what stood in it.
#[derive(Debug)]
struct File {
    path: PathBuf,
    /// When it was last said to have changed, or the watch began.
    text: Option<String>,
    /// What the last look found instead.
    newer: Option<String>,
}

impl FileWatch {
    /// Watches SIGHUP and, if there is one, `file`, from now on: made before the configuration is read, it misses nothing.
    pub fn new(file: Option<PathBuf>) -> io::Result<Self> {
        let file = file.map(|path| File { text: read(&path), path, newer: None });
        let mut period = tokio::time::interval(LOOK_INTERVAL);
        // Two looks tell something only if there is time between them.
        period.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self { hangup: crate::signal::hangup()?, file, period })
    }

    /// Waits for the next change.
    pub async fn changed(&mut self) -> Change {
        loop {
            tokio::select! {
                _ = self.hangup.recv() => {
                    self.file.iter_mut().for_each(File::is_read);
                    return Change::Hangup;
                }
                _ = self.period.tick() => {
                    if self.file.as_mut().is_some_and(File::has_changed) {
                        return Change::File;
                    }
                }
            }
        }
    }
}

impl File {
    /// What stands in it now will be in force, be it half-written or empty.
    fn is_read(&mut self) {
        (self.text, self.newer) = (read(&self.path), None);
    }

    /// Whether two looks in a row found the same new text: a file may be half-way through a replacement.
    fn has_changed(&mut self) -> bool {
        let found = read(&self.path).filter(|text| self.text.as_ref() != Some(text));
        let changed = found.is_some() && found == self.newer;
        self.newer = found;
        if changed {
            self.text = self.newer.take();
        }
        changed
    }
}

/// The text of a file. One that can't be read or is empty is being replaced: a shell empties it before it writes.
fn read(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok().filter(|text| !text.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const LONG: Duration = Duration::from_secs(3_600);

    struct Rig {
        _dir: tempfile::TempDir,
        path: PathBuf,
        watch: FileWatch,
    }

    fn rig() -> Rig {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("uproar.toml");
        fs::write(&path, "old").unwrap();
        Rig { watch: FileWatch::new(Some(path.clone())).unwrap(), path, _dir: dir }
    }

    impl Rig {
        async fn is_noticed(&mut self) -> bool {
            tokio::time::timeout(LONG, self.watch.changed()).await == Ok(Change::File)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_is_noticed_once_and_within_a_second_also_one_before_the_first_look() {
        let mut rig = rig();
        fs::write(&rig.path, "new").unwrap();
        let began = tokio::time::Instant::now();
        assert!(rig.is_noticed().await);
        assert!(began.elapsed() <= Duration::from_secs(1));
        assert!(!rig.is_noticed().await);
        fs::write(&rig.path, "old").unwrap();
        assert!(rig.is_noticed().await, "it is another change");
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_is_being_replaced_is_as_it_was() {
        let mut rig = rig();
        fs::write(&rig.path, "").unwrap();
        assert!(!rig.is_noticed().await, "it was emptied");
        fs::remove_file(&rig.path).unwrap();
        assert!(!rig.is_noticed().await, "it is gone");
        fs::write(&rig.path, "new").unwrap();
        assert!(rig.is_noticed().await);
    }

    #[tokio::test(start_paused = true)]
    async fn looks_have_time_between_them_also_after_a_pause() {
        let mut rig = rig();
        assert!(!rig.is_noticed().await);
        tokio::time::advance(10 * LOOK_INTERVAL).await;
        fs::write(&rig.path, "half").unwrap();
        let began = tokio::time::Instant::now();
        assert!(rig.is_noticed().await);
        assert!(began.elapsed() >= LOOK_INTERVAL);
    }

    #[test]
    fn what_was_read_at_a_hangup_is_what_changes_are_held_against() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("uproar.toml");
        for meanwhile in ["new", ""] {
            let mut file = File { path: path.clone(), text: Some("old".into()), newer: None };
            fs::write(&path, meanwhile).unwrap();
            file.is_read();
            fs::write(&path, "old").unwrap();
            assert_eq!([file.has_changed(), file.has_changed()], [false, true], "{meanwhile:?}");
        }
    }

    #[test]
    fn a_text_that_grows_has_not_changed_yet() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("uproar.toml");
        let mut file = File { path: path.clone(), text: Some("old".into()), newer: None };
        for (text, changed) in [("a", false), ("ab", false), ("abc", false), ("abc", true), ("abc", false)] {
            fs::write(&path, text).unwrap();
            assert_eq!(file.has_changed(), changed, "{text}");
        }
    }
}
