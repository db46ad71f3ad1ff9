//! The command line.

use crate::{audit, check, export, repartition, room, run};
use clap::{Args, Parser, Subcommand, ValueEnum};
use service::config::{ConfigErrors, Sources};
use std::{path::PathBuf, process::ExitCode, time::Duration};

/// Live reactions of a whole audience: POSTs in, one shared picture out.
///
/// Without a command, everything runs in this process on an embedded log: start it, then follow the lines that it
/// prints.
#[derive(Debug, Parser)]
#[command(name = "uproar", version = VERSION, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    layers: LayerArgs,
}

/// The version and the commit that was built.
pub(crate) const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("UPROAR_COMMIT"), ")");

const EXAMPLES: &str =
    "Configuration: defaults < --config FILE < UPROAR__SECTION__KEY < --set section.key=value

Examples:
  uproar                                              everything, data in ./data
  uproar --set aggregator.interval_ms=500             the same with shorter windows
  uproar default-config > uproar.toml                 every key with its default, to edit
  uproar check-config --config uproar.toml            all errors at once, starts nothing
  uproar ingest --config uproar.toml                  one tier, on Kafka (log.kind = \"kafka\")
  uproar audit --config uproar.toml                   whether every reaction was counted once
  uproar export --config uproar.toml --room final     what came in each window of a room
  uproar repartition --help                           another number of partitions, with all totals
  uproar room close final                             a room takes no reactions any more";

#[derive(Debug, Args)]
struct LayerArgs {
    /// Configuration file (TOML); changes to it are noticed while running
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One value, over all other layers; may be repeated
    #[arg(long, global = true, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run all tiers in this process (the default)
    All,
    /// Run the tier that accepts reactions
    Ingest,
    /// Run the tier that rolls them up
    Aggregator,
    /// Run the tier that pushes frames to viewers
    Fanout,
    /// Run the tier that serves what came in earlier windows
    History,
    /// Check the configuration and say all that is wrong with it
    CheckConfig {
        /// The command that is to run with it: a single tier needs Kafka, `all` doesn't
        #[arg(long, default_value = "all")]
        role: Role,
    },
    /// Print every key with its default and what it means
    DefaultConfig,
    /// Read the event log once, and say for every room whether each reaction was counted once
    #[command(after_help = audit::HELP)]
    Audit(audit::AuditArgs),
    /// Print what came in the windows of a room
    #[command(after_help = export::HELP)]
    Export(export::ExportArgs),
    /// Carry the totals of all rooms into a new log with another number of partitions
    #[command(after_help = repartition::HELP)]
    Repartition(repartition::RepartitionArgs),
    /// Close a room, open it, or change its settings, through the admin API of a running process
    #[command(after_help = room::HELP)]
    Room(room::RoomArgs),
}

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// All tiers.
    All,
    /// The tier that accepts reactions.
    Ingest,
    /// The tier that rolls them up.
    Aggregator,
    /// The tier that pushes frames.
    Fanout,
    /// The tier that serves the history.
    History,
}

impl Role {
    /// Its name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Ingest => "ingest",
            Self::Aggregator => "aggregator",
            Self::Fanout => "fanout",
            Self::History => "history",
        }
    }
}

/// The process ends after this where nobody reads standard error.
const REPORT_PATIENCE: Duration = Duration::from_secs(1);

/// Why the process ends other than as asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Nothing was started.
    Config(ConfigErrors),
    /// Something failed while running.
    Running(anyhow::Error),
    /// A second signal came before all was stopped.
    CutShort,
    /// It was said already; this is the exit code.
    Told(u8),
}

impl Failure {
    /// Prints the failure to standard error, and returns the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        let (text, code) = match self {
            Self::Config(errors) => {
                let lines: String = errors.lines().map(|line| format!("  {line}\n")).collect();
                let hint = "`uproar default-config` prints every key with its meaning";
                (format!("the configuration is not right:\n{lines}{hint}\n"), 2)
            }
            Self::Running(error) => (format!("uproar failed: {error:#}\n"), 1),
            Self::CutShort => return ExitCode::from(130),
            Self::Told(code) => return ExitCode::from(*code),
        };
        // The exit code tells it too, where nobody reads.
        service::print(service::Stream::Error, text, REPORT_PATIENCE);
        ExitCode::from(code)
    }
}

impl Cli {
    /// Does what the command line says.
    pub(crate) fn run(self) -> Result<(), Failure> {
        let env = std::env::vars_os().collect();
        let sources = Sources { file: self.layers.config, env, sets: self.layers.set };
        let role = match self.command.unwrap_or(Command::All) {
            Command::DefaultConfig => return check::print_defaults(),
            Command::CheckConfig { role } => return check::check(role, &sources),
            Command::Audit(args) => {
                return match audit::run(&args, &sources)? {
                    0 => Ok(()),
                    code => Err(Failure::Told(code)),
                };
            }
            Command::Export(args) => return export::run(&args, &sources),
            Command::Repartition(args) => return repartition::run(&args, sources),
            Command::Room(args) => return room::run(args),
            Command::All => Role::All,
            Command::Ingest => Role::Ingest,
            Command::Aggregator => Role::Aggregator,
            Command::Fanout => Role::Fanout,
            Command::History => Role::History,
        };
        run::run(role, sources)
    }
}
