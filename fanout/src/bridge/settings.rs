//! How the client library is set up.

use super::BridgeConfig;
use crate::Error;
use rumqttc::{
    MqttOptions, NetworkOptions, QoS, Transport,
    tokio_native_tls::native_tls::{self, Certificate, Protocol, TlsConnector},
};
use std::{fs, time::Duration};

/// For the connection with all its handshakes, and for what the kernel does not take.
const NETWORK_TIMEOUT_S: u64 = 10;
/// What waits in the kernel is old when it arrives; the kernel doubles it.
const SEND_BUFFER_BYTES: u32 = 128 << 10;
/// Above every frame: a record of the log is below 1 MB.
const MAX_OUTGOING_BYTES: usize = 4 << 20;
/// The broker has nothing long to say.
const MAX_INCOMING_BYTES: usize = 64 << 10;
/// QoS 1: messages that wait for their acknowledgement.
const WINDOW: u16 = 100;

/// All that connections have in common.
pub(super) struct Settings {
    pub(super) options: MqttOptions,
    pub(super) network: NetworkOptions,
    pub(super) qos: QoS,
    /// Messages that may be under way at a time.
    pub(super) window: u16,
    pub(super) topic_prefix: String,
}

impl Settings {
    /// Reads the file of `ca_file`.
    pub(super) fn of(config: &BridgeConfig) -> Result<Self, Error> {
        let mut options = MqttOptions::new(client_id(&config.client_id), &config.host, config.port);
        options.set_keep_alive(Duration::from_secs(config.keep_alive_s.into()));
        options.set_max_packet_size(MAX_INCOMING_BYTES, MAX_OUTGOING_BYTES);
        options.set_inflight(WINDOW);
        if !config.username.is_empty() {
            options.set_credentials(&config.username, config.password.reveal());
        }
        if config.tls {
            options.set_transport(tls(config)?);
        }
        let mut network = NetworkOptions::new();
        network.set_connection_timeout(NETWORK_TIMEOUT_S);
        network.set_tcp_send_buffer_size(SEND_BUFFER_BYTES);
        network.set_tcp_nodelay(true);
        let (qos, window) = match config.qos {
            // The next is taken when the kernel has this one.
            0 => (QoS::AtMostOnce, 1),
            _ => (QoS::AtLeastOnce, WINDOW),
        };
        Ok(Self { options, network, qos, window, topic_prefix: config.topic_prefix.clone() })
    }
}

/// Two connections with one id throw each other out, so that it has to differ between nodes; it stays the same over a
/// restart, so that a broker drops the connection of before.
fn client_id(configured: &str) -> String {
    if !configured.is_empty() {
        return configured.to_owned();
    }
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("uproar-{}", host.trim())
}

fn tls(config: &BridgeConfig) -> Result<Transport, Error> {
    let failed = |error: native_tls::Error| Error::Bridge(format!("TLS: {error}"));
    let mut builder = TlsConnector::builder();
    builder.min_protocol_version(Some(Protocol::Tlsv12));
    if !config.ca_file.as_os_str().is_empty() {
        let wrong = |why: String| {
            Error::Bridge(format!("fanout.bridge.ca_file: {}: {why}", config.ca_file.display()))
        };
        let pem = fs::read(&config.ca_file).map_err(|error| wrong(error.to_string()))?;
        let certificates = Certificate::stack_from_pem(&pem).map_err(|error| wrong(error.to_string()))?;
        if certificates.is_empty() {
            return Err(wrong("holds no certificate in PEM form".into()));
        }
        builder.disable_built_in_roots(true);
        for certificate in certificates {
            builder.add_root_certificate(certificate);
        }
    }
    Ok(Transport::tls_with_config(builder.build().map_err(failed)?.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_id_is_the_configured_one_or_made_of_the_hosts_name() {
        assert_eq!(client_id("mine"), "mine");
        let made = client_id("");
        assert!(made.len() > "uproar-".len() && !made.contains(char::is_whitespace), "{made:?}");
    }

    #[test]
    fn a_file_without_certificates_is_refused_by_its_key() {
        let mut config = crate::tests::harness::config().bridge;
        config.tls = true;
        for (file, why) in [("/nowhere/ca.pem", "No such file"), ("/dev/null", "no certificate")] {
            config.ca_file = file.into();
            let text = Settings::of(&config).err().unwrap().to_string();
            assert!(text.contains("fanout.bridge.ca_file") && text.contains(why), "{text}");
        }
    }
}
