//! The command `export`: prints what came in the windows of a room.

use crate::{
    cli::{Failure, Role},
    config,
    progress::Progress,
};
use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use service::config::Sources;
use std::{
    io::{self, IsTerminal, Write},
    mem,
};
use wire::{RoomName, WindowRecord};

/// What `uproar export --help` says at its end.
pub(crate) const HELP: &str = "Reads `windows`, the history, of the log that the configuration names, and changes nothing. It may run beside everything
else. Times are ms since the epoch, or RFC 3339. Windows that start at --from or later and before --to are printed.

csv:   one line for each window and reaction: room,start,end,seq,reaction,count. Reactions that the room does not count by
       name are one line with an empty reaction.
jsonl: one window a line, as it stands in the log.

Examples:
  uproar export --config uproar.toml --room final > final.csv
  uproar export --config uproar.toml --room final --from 2026-11-30T20:00:00Z --format jsonl";

/// How far the clocks of brokers may be apart.
const CLOCKS_MS: u64 = 60_000;

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// The room
    #[arg(long, value_name = "NAME")]
    room: RoomName,
    /// First time; without it, all that is kept
    #[arg(long, value_name = "TIME", value_parser = time)]
    from: Option<u64>,
    /// First time after the windows; without it, now
    #[arg(long, value_name = "TIME", value_parser = time)]
    to: Option<u64>,
    /// How windows are printed
    #[arg(long, value_name = "FORMAT", default_value = "csv")]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// One line for each window and reaction
    Csv,
    /// One JSON object a line
    Jsonl,
}

fn time(text: &str) -> Result<u64, String> {
    let why = "write ms since the epoch, or RFC 3339 such as 2026-11-30T20:15:00Z";
    history::time::parse(text).ok_or_else(|| why.to_owned())
}

/// Prints the windows of the log that the configuration names.
pub(crate) fn run(args: &ExportArgs, sources: &Sources) -> Result<(), Failure> {
    let config = config::load(Role::All, sources).map_err(Failure::Config)?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    match export(args, &config, &mut out).and_then(|()| Ok(out.flush()?)) {
        // A reader that has seen enough (`| head`) is no failure.
        Err(error) if is_closed(&error) => Ok(()),
        result => result.map_err(Failure::Running),
    }
}

fn is_closed(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn export(args: &ExportArgs, config: &config::Config, out: &mut impl Write) -> anyhow::Result<()> {
    let history = eventlog::history(&config.log)?;
    let partition = eventlog::partition_of(&args.room, history.partitions());
    // A window is committed after it began, by clocks that may differ a little.
    let since_ms = args.from.unwrap_or(0).saturating_sub(CLOCKS_MS);
    let Some(windows) = history.windows(partition, since_ms)? else {
        bail!("the log keeps no history (log.history_retention_ms)");
    };
    let span = args.from.unwrap_or(0)..args.to.unwrap_or(u64::MAX);
    // Windows on a terminal are progress enough.
    let progress = Progress::start("windows", None).hidden_if(io::stdout().is_terminal());
    if args.format == Format::Csv {
        out.write_all(b"room,start,end,seq,reaction,count\r\n")?;
    }
    for window in windows {
        let window = window?;
        progress.step();
        if window.room != args.room {
            continue;
        }
        let record = WindowRecord::decode_of(&window.room, &window.value);
        let record = record.with_context(|| format!("partition {partition}, offset {}", window.offset))?;
        if !span.contains(&record.window.start) {
            continue;
        }
        match args.format {
            Format::Csv => write_csv(&record, out)?,
            Format::Jsonl => {
                out.write_all(&window.value)?;
                out.write_all(b"\n")?;
            }
        }
    }
    progress.end();
    // The client library may hang when it is closed; the process ends now anyway.
    mem::forget(history);
    Ok(())
}

/// RFC 4180.
fn write_csv(record: &WindowRecord, out: &mut impl Write) -> io::Result<()> {
    let WindowRecord { room, seq, window, counts, others, .. } = record;
    let mut line = |reaction: &str, count: u64| {
        let is_plain = !reaction.contains(['"', ',', '\r', '\n']);
        let quoted =
            if is_plain { reaction.to_owned() } else { format!("\"{}\"", reaction.replace('"', "\"\"")) };
        write!(out, "{room},{},{},{seq},{quoted},{count}\r\n", window.start, window.end)
    };
    for (reaction, count) in counts {
        line(reaction, *count)?;
    }
    if *others > 0 { line("", *others) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_csv_line_is_a_reaction_of_a_window() {
        let record = br#"{"v":1,"room":"r","seq":7,"since":1,"window":{"start":1000,"end":3000},"count":15,"counts":{"a,b":1,"q\"":2,"x":4},"others":8,"slots":[15],"late":0,"skewed":0,"source":{"partition":0,"from":1,"to":2}}"#;
        let mut out = Vec::new();
        write_csv(&WindowRecord::decode(record).unwrap(), &mut out).unwrap();
        let expected = "r,1000,3000,7,\"a,b\",1\r\nr,1000,3000,7,\"q\"\"\",2\r\nr,1000,3000,7,x,4\r\nr,1000,3000,7,,8\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn times_are_those_of_the_api() {
        assert_eq!(time("1970-01-01T00:00:01Z"), Ok(1_000));
        assert!(time("yesterday").unwrap_err().contains("RFC 3339"));
    }
}
