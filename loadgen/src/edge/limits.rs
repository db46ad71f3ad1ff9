//! Limits of the system that a big run meets, checked before it starts.

use super::plan::{Candidates, Kind, Plan};
use crate::{proc, sources::PER_SOURCE};
use anyhow::ensure;

/// Files of a process that are not viewers.
const SPARE_FILES: usize = 1_100;
/// Kernel memory of both ends of a connection, and of the client's state.
const KIB_PER_VIEWER: u64 = 11;
/// Of a server's memory for a viewer, what the hungriest here is known to need.
const RUMQTTD_KIB_PER_VIEWER: u64 = 46;

/// Viewers that fit into one process with `files` files.
pub(crate) fn viewers_per_process(files: usize) -> usize {
    files.saturating_sub(SPARE_FILES).max(1)
}

/// Refuses what can't work: more viewers in a process than it may open files.
pub(crate) fn check_files(plan: &Plan, files: usize) -> anyhow::Result<()> {
    let most = viewers_per_process(files);
    for (option, processes) in
        [("--server-processes", plan.server_processes), ("--client-processes", plan.client_processes)]
    {
        let each = plan.viewers.div_ceil(processes);
        let needed = plan.viewers.div_ceil(most);
        let fits = each <= most
            || matches!(plan.candidates, Candidates::Running(_)) && option.starts_with("--server");
        ensure!(
            fits,
            "{each} viewers don't fit into one process: it may open {files} files (ulimit -Hn). \
             Raise that limit, or use {option} {needed}"
        );
    }
    Ok(())
}

/// The system's settings, as far as they can be read.
#[derive(Debug, Clone, Default)]
pub(crate) struct System {
    somaxconn: Option<u64>,
    syn_backlog: Option<u64>,
    ports: Option<u64>,
    conntrack_free: Option<u64>,
    files_free: Option<u64>,
    available_kib: Option<u64>,
}

impl System {
    pub(crate) fn look() -> Self {
        let range = |numbers: Vec<u64>| Some(numbers.last()?.saturating_sub(*numbers.first()?) + 1);
        let conntrack = || {
            let used = proc::setting("net/netfilter/nf_conntrack_count")?;
            // Nothing is tracked where there are no rules.
            let max = proc::setting("net/netfilter/nf_conntrack_max")?;
            (used > 0).then(|| max.saturating_sub(used))
        };
        let files = || {
            let numbers = proc::numbers("fs/file-nr")?;
            Some(numbers.get(2)?.saturating_sub(*numbers.first()?))
        };
        Self {
            somaxconn: proc::setting("net/core/somaxconn"),
            syn_backlog: proc::setting("net/ipv4/tcp_max_syn_backlog"),
            ports: proc::numbers("net/ipv4/ip_local_port_range").and_then(range),
            conntrack_free: conntrack(),
            files_free: files(),
            available_kib: proc::available_kib(),
        }
    }

    /// What may get in the way of `plan`, with what to do about it.
    pub(crate) fn hints(&self, plan: &Plan) -> Vec<String> {
        let viewers = (plan.viewers + plan.silent) as u64;
        let connecting = plan.connecting as u64;
        let hungry =
            matches!(&plan.candidates, Candidates::Start { kinds, .. } if kinds.contains(&Kind::Rumqttd));
        let per_viewer = KIB_PER_VIEWER + if hungry { RUMQTTD_KIB_PER_VIEWER } else { 2 };
        let rules = [
            (
                self.somaxconn,
                connecting,
                "net.core.somaxconn",
                "connections that a server has not accepted yet are dropped and come again a second later",
            ),
            (self.syn_backlog, connecting, "net.ipv4.tcp_max_syn_backlog", "connections may take seconds"),
            (
                self.ports,
                2 * PER_SOURCE as u64,
                "net.ipv4.ip_local_port_range (its width)",
                "connections may find no free port",
            ),
            (
                self.conntrack_free,
                viewers,
                "net.netfilter.nf_conntrack_max (less what is in use)",
                "connections beyond it are dropped",
            ),
            (self.files_free, 2 * viewers, "fs.file-max (less what is in use)", "connections beyond it fail"),
            (
                self.available_kib,
                viewers * per_viewer,
                "the memory that is available, in KiB,",
                "the run may be killed",
            ),
        ];
        rules
            .into_iter()
            .filter_map(|(is, needed, name, then)| {
                let is = is.filter(|is| *is < needed)?;
                Some(format!("{name} is {is}, this run wants {needed}: {then}"))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::cli::tests::plan, *};

    #[test]
    fn a_roomy_system_needs_no_hint() {
        let roomy = System {
            somaxconn: Some(4_096),
            syn_backlog: Some(4_096),
            ports: Some(28_000),
            conntrack_free: None,
            files_free: Some(1_000_000),
            available_kib: Some(8 << 20),
        };
        assert_eq!(roomy.hints(&plan("").unwrap()), Vec::<String>::new());
        assert_eq!(System::default().hints(&plan("").unwrap()), Vec::<String>::new());
    }

    #[test]
    fn each_limit_in_the_way_is_named_with_what_follows() {
        let tight = System {
            somaxconn: Some(128),
            syn_backlog: Some(128),
            ports: Some(100),
            conntrack_free: Some(5_000),
            files_free: Some(9_000),
            available_kib: Some(1_000),
        };
        let hints = tight.hints(&plan("--viewers 10000 --connecting 512").unwrap());
        assert_eq!(hints.len(), 6, "{hints:#?}");
        assert!(hints[0].starts_with("net.core.somaxconn is 128, this run wants"), "{}", hints[0]);
    }

    #[test]
    fn too_many_viewers_for_a_process_are_refused_with_the_way_out() {
        let plan = plan("--viewers 30000 --server-processes 2 --client-processes 4").unwrap();
        check_files(&plan, 20_000).unwrap();
        let said = check_files(&plan, 10_000).unwrap_err().to_string();
        assert!(said.contains("use --server-processes 4"), "{said}");
        assert_eq!(viewers_per_process(20_000), 18_900);
    }
}
