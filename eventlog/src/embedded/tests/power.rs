//! Cases: the power goes, and of each file of reactions there is only what was synced.

use super::*;
use std::{
    fs::{self, File},
    io,
    os::fd::AsRawFd as _,
    path::PathBuf,
};

/// What was synced of each file.
#[derive(Clone, Default)]
struct Platters(Arc<Mutex<BTreeMap<PathBuf, Vec<u8>>>>);

impl Platters {
    fn medium(&self) -> Medium {
        let platters = self.clone();
        Medium { sync: Arc::new(move |file| platters.sync(file)), ..Medium::default() }
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        let path = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        let bytes = fs::read(&path)?;
        self.0.lock().unwrap().insert(path, bytes);
        Ok(())
    }

    async fn open(&self, dir: &TempDir) -> Result<EmbeddedLog, OpenError> {
        EmbeddedLog::open_with(&config(dir), 1, Arc::new(|| 1), self.medium()).await
    }

    fn cut_the_power(&self) {
        for (path, bytes) in self.0.lock().unwrap().iter() {
            fs::write(path, bytes).unwrap();
        }
    }
}

#[tokio::test]
async fn what_was_rolled_up_after_a_kill_is_there_after_a_power_cut() {
    let (dir, platters) = (TempDir::new().unwrap(), Platters::default());
    let log = platters.open(&dir).await.unwrap();
    append(&log, 0, "acknowledged").await;
    let synced = platters.0.lock().unwrap().clone();
    append(&log, 0, "written").await;
    drop(log);
    // It was killed between the write and the sync of the second, which the kernel has, and the disk doesn't.
    *platters.0.lock().unwrap() = synced;

    let log = platters.open(&dir).await.unwrap();
    let reader = Reader::open(&log).await;
    assert_eq!(reader.values(), ["acknowledged", "written"]);
    reader.commit_all().await;
    drop((reader, log));
    platters.cut_the_power();

    let log = platters.open(&dir).await.unwrap();
    let reader = Reader::open(&log).await;
    assert_eq!((reader.starts[&0], reader.values().len()), (2, 0));
}
