//! Log lines go to standard error through a bounded queue. A thread of its own writes them.
//!
//! A reader of standard error that stops reading must not stop anything else. So no caller waits for a line: a full
//! queue loses the line and counts the loss, and a stop waits for the queue only for a short, bounded time.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::AsFd as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    thread,
    time::Duration,
};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};

/// Lines that may wait to be written. At some 300 bytes a line these are 2.5 MB.
const LINES_MAX: usize = 8_192;

/// The longest wait for the queue where nobody calls [`LogGuard::flush`], such as after a panic.
const FLUSH: Duration = Duration::from_millis(500);

/// Flushes the log when the process ends. Lines that come after that are lost.
#[derive(Debug)]
pub struct LogGuard {
    worker: Option<WorkerGuard>,
    lost: LostLines,
}

/// Counts the log lines that nobody could write.
#[derive(Clone, Debug)]
pub struct LostLines {
    /// Lines that the queue had no place for.
    dropped: ErrorCounter,
    /// Lines that could not be written.
    failed: Arc<AtomicU64>,
}

/// A standard stream of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Error,
}

/// A writer for log lines that never waits for `to`, and its guard.
pub(crate) fn log_writer(to: impl Write + Send + 'static, lines_max: usize) -> (NonBlocking, LogGuard) {
    let failed = Arc::<AtomicU64>::default();
    let to = CountFailures { to, failed: Arc::clone(&failed) };
    let builder = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(lines_max);
    let (writer, worker) = builder.thread_name("log").finish(to);
    let lost = LostLines { dropped: writer.error_counter(), failed };
    (writer, LogGuard { worker: Some(worker), lost })
}

/// The same for standard error.
pub(crate) fn stderr_writer() -> (NonBlocking, LogGuard) {
    match Stream::Error.open() {
        Ok(file) => log_writer(file, LINES_MAX),
        Err(_) => log_writer(io::stderr(), LINES_MAX),
    }
}

impl LogGuard {
    /// The count of lost lines.
    pub fn lost(&self) -> LostLines {
        self.lost.clone()
    }

    /// Writes the lines that wait, for at most `patience`.
    pub fn flush(mut self, patience: Duration) {
        self.flush_within(patience);
    }

    fn flush_within(&mut self, patience: Duration) {
        let Some(worker) = self.worker.take() else { return };
        // The guard of the library waits for over a second, and then prints to standard output, which may be stalled
        // too. So it is dropped on a thread that nobody waits for longer than `patience`.
        within("log-flush", patience, move || drop(worker));
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        self.flush_within(FLUSH);
    }
}

impl LostLines {
    /// Lines lost since the start of the process.
    pub fn count(&self) -> u64 {
        (self.dropped.dropped_lines() as u64).saturating_add(self.failed.load(Relaxed))
    }
}

/// Writes `text` to a standard stream. A stream that takes nothing loses it after `patience`.
pub fn print(stream: Stream, text: String, patience: Duration) {
    within("print", patience, move || {
        // Nobody can be told of a failure here.
        let _ = stream.open().and_then(|mut file| file.write_all(text.as_bytes()));
    });
}

/// Runs `work` on a thread of its own, and waits for it for at most `patience`.
fn within(name: &str, patience: Duration, work: impl FnOnce() + Send + 'static) {
    let (done, ended) = mpsc::sync_channel::<()>(1);
    let work = move || {
        work();
        drop(done);
    };
    if thread::Builder::new().name(name.into()).spawn(work).is_ok() {
        let _ = ended.recv_timeout(patience);
    }
}

impl Stream {
    /// The file itself. A writer that stalls would hold the lock of the standard library, and others would wait for it.
    fn open(self) -> io::Result<File> {
        let descriptor = match self {
            Self::Out => io::stdout().as_fd().try_clone_to_owned(),
            Self::Error => io::stderr().as_fd().try_clone_to_owned(),
        };
        descriptor.map(File::from)
    }
}

struct CountFailures<W> {
    to: W,
    failed: Arc<AtomicU64>,
}

impl<W: Write> Write for CountFailures<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.to.write(bytes)
    }

    fn write_all(&mut self, line: &[u8]) -> io::Result<()> {
        self.to.write_all(line).inspect_err(|_| {
            self.failed.fetch_add(1, Relaxed);
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        sync::{Mutex, mpsc::Receiver},
        time::Instant,
    };

    const PATIENCE: Duration = Duration::from_secs(20);

    /// Takes a line only when the test allows it.
    struct Stalled {
        allow: Receiver<()>,
        lines: Arc<Mutex<Vec<String>>>,
    }

    impl Write for Stalled {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.allow.recv().map_err(|_| io::ErrorKind::BrokenPipe)?;
            self.lines.lock().unwrap().push(String::from_utf8(line.to_vec()).unwrap());
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn until(what: &str, holds: impl Fn() -> bool) {
        let began = Instant::now();
        while !holds() {
            assert!(began.elapsed() < PATIENCE, "{what}");
            thread::yield_now();
        }
    }

    #[test]
    fn a_stalled_reader_costs_lines_that_are_counted_and_never_waits() {
        let (allow, allowed) = mpsc::channel();
        let lines = Arc::<Mutex<Vec<String>>>::default();
        let (mut writer, guard) = log_writer(Stalled { allow: allowed, lines: Arc::clone(&lines) }, 4);
        let lost = guard.lost();
        for number in 0..100 {
            writer.write_all(format!("{number}").as_bytes()).unwrap();
        }
        // The thread may have taken one line out of the queue.
        assert!((95..=96).contains(&lost.count()), "{}", lost.count());
        let began = Instant::now();
        guard.flush(Duration::from_millis(50));
        assert!(began.elapsed() < Duration::from_secs(10), "a flush has a bound: {:?}", began.elapsed());
        (0..4).for_each(|_| allow.send(()).unwrap());
        until("the oldest lines are written when the reader comes back", || lines.lock().unwrap().len() == 4);
        assert_eq!(*lines.lock().unwrap(), ["0", "1", "2", "3"]);
    }

    #[test]
    fn a_flush_loses_nothing_where_the_reader_reads() {
        let (allow, allowed) = mpsc::channel();
        (0..100).for_each(|_| allow.send(()).unwrap());
        let lines = Arc::<Mutex<Vec<String>>>::default();
        let (mut writer, guard) = log_writer(Stalled { allow: allowed, lines: Arc::clone(&lines) }, 100);
        (0..100).for_each(|_| writer.write_all(b"line").unwrap());
        let lost = guard.lost();
        guard.flush(PATIENCE);
        assert_eq!((lines.lock().unwrap().len(), lost.count()), (100, 0));
    }

    #[test]
    fn a_line_that_can_not_be_written_is_counted_too() {
        let (allow, allowed) = mpsc::channel();
        drop(allow);
        let (mut writer, guard) = log_writer(Stalled { allow: allowed, lines: Arc::default() }, 100);
        (0..3).for_each(|_| writer.write_all(b"line").unwrap());
        let lost = guard.lost();
        guard.flush(PATIENCE);
        assert_eq!(lost.count(), 3);
    }
}
