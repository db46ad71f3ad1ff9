//! Eclipse Mosquitto as it comes, without limits on its connections.

use super::{Process, with_mqtt};
use crate::{
    child::{Child, free_address},
    edge::plan::Plan,
};
use std::path::{Path, PathBuf};
use tokio::process::Command;

/// Where distributions put servers, which is not on everybody's path.
const USUAL_FOLDERS: [&str; 2] = ["/usr/sbin", "/usr/local/sbin"];

pub(super) fn missing(plan: &Plan) -> Option<String> {
    let missing = program(&plan.mosquitto).is_none();
    missing
        .then(|| format!("{} is not installed (Debian: apt-get install mosquitto)", plan.mosquitto.display()))
}

pub(super) async fn start(plan: &Plan, dir: &Path, room: &str) -> anyhow::Result<Process> {
    let address = free_address()?;
    let config = dir.join("mosquitto.conf");
    std::fs::write(
        &config,
        format!(
            "listener {} {}\nmax_connections -1\nallow_anonymous true\npersistence false\nset_tcp_nodelay true\n\
             log_type error\nlog_type warning\n",
            address.port(),
            address.ip()
        ),
    )?;
    let mut command = Command::new(program(&plan.mosquitto).unwrap_or_else(|| plan.mosquitto.clone()));
    command.arg("-c").arg(config);
    with_mqtt(Child::start(command, dir)?, address, room).await
}

/// The program's file, if there is one.
fn program(named: &Path) -> Option<PathBuf> {
    if named.components().count() > 1 {
        return named.is_file().then(|| named.to_owned());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(USUAL_FOLDERS.map(PathBuf::from));
    folders.map(|folder| folder.join(named)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_looked_for_on_the_path_only_when_it_has_no_folder() {
        assert!(program(Path::new("sh")).is_some_and(|file| file.is_absolute()));
        assert_eq!(program(Path::new("no-such-program")), None);
        assert_eq!(program(Path::new("./sh")), None);
    }
}
