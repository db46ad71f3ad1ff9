//! The machine and the build, which every figure depends on.

use crate::proc;
use serde::Serialize;

/// Part of a report's conditions.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) cores: usize,
    pub(crate) kernel: Option<String>,
    pub(crate) load_average_before: Option<String>,
    pub(crate) optimized_build: bool,
}

impl Machine {
    /// As it is before a run.
    pub(crate) fn now() -> Self {
        Self {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: proc::kernel(),
            load_average_before: proc::load_average(),
            optimized_build: !cfg!(debug_assertions),
        }
    }

    pub(crate) fn to_text(&self) -> String {
        let known = |text: &Option<String>| text.clone().unwrap_or_else(|| "unknown".to_owned());
        let (kernel, load) = (known(&self.kernel), known(&self.load_average_before));
        format!("{} cores, kernel {kernel}, load average before: {load}", self.cores)
    }

    /// A line of its own, where figures mean little.
    pub(crate) fn warning(&self) -> &'static str {
        if self.optimized_build {
            ""
        } else {
            "\nnot an optimized build: the figures mean little (cargo build --release)"
        }
    }
}
