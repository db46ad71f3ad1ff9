//! Where the server is.

use anyhow::{Context as _, ensure};
use hyper::Uri;
use std::{
    fmt,
    net::{self, SocketAddr, ToSocketAddrs as _},
    str::FromStr,
    time::Duration,
};
use tokio::net::TcpStream;

/// How long one of several addresses may take for a connection.
const OPEN_WITHIN: Duration = Duration::from_secs(2);

/// The base of HTTP requests: `http://host[:port][/prefix]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HttpTarget {
    /// `host:port`.
    pub(crate) address: String,
    prefix: String,
}

impl FromStr for HttpTarget {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let uri: Uri = text.parse()?;
        ensure!(uri.scheme_str() == Some("http"), "write it as http://host:port (TLS is not spoken)");
        ensure!(uri.query().is_none(), "the base URL can't have a query");
        let host = uri.host().context("the host is missing")?;
        // What is no port counts as none for the library, and port 80 is somebody else.
        let bare = uri.authority().is_some_and(|authority| authority.as_str().ends_with(host));
        ensure!(uri.port().is_some() || bare, "the port is no number up to 65535");
        let port = uri.port_u16().unwrap_or(80);
        Ok(Self { address: format!("{host}:{port}"), prefix: uri.path().trim_end_matches('/').to_owned() })
    }
}

impl fmt::Display for HttpTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.address, self.prefix)
    }
}

impl HttpTarget {
    /// `path` behind the base's own.
    pub(crate) fn path(&self, path: &str) -> String {
        format!("{}{path}", self.prefix)
    }

    /// Opens a connection.
    pub(crate) async fn connect(&self) -> std::io::Result<TcpStream> {
        let stream = TcpStream::connect(&self.address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// Where MQTT is spoken: `host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MqttTarget {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl FromStr for MqttTarget {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (host, port) = text.rsplit_once(':').context("write it as host:port")?;
        ensure!(!host.is_empty() && !host.contains('/'), "write it as host:port");
        Ok(Self { host: host.to_owned(), port: port.parse().context("the port is no number up to 65535")? })
    }
}

impl fmt::Display for MqttTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// The address of `host:port`, for those who connect very often. A name may have several, such as localhost, of which a
/// server may use one.
pub(crate) fn resolve(host: &str) -> anyhow::Result<SocketAddr> {
    let all: Vec<_> = host.to_socket_addrs()?.collect();
    first_open(&all).context("it has no address")
}

/// The first that takes a connection, or else the first: who connects there says why not.
fn first_open(addresses: &[SocketAddr]) -> Option<SocketAddr> {
    let is_open = |address: &&SocketAddr| net::TcpStream::connect_timeout(address, OPEN_WITHIN).is_ok();
    match addresses {
        [only] => Some(*only),
        _ => addresses.iter().find(is_open).or(addresses.first()).copied(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_targets_may_have_a_prefix_and_no_port() {
        let target: HttpTarget = "http://example.net/live/".parse().unwrap();
        assert_eq!(target.address, "example.net:80");
        assert_eq!(target.path("/v1/rooms"), "/live/v1/rooms");
        assert_eq!(target.to_string(), "http://example.net:80/live");
        assert_eq!("http://[::1]".parse::<HttpTarget>().unwrap().address, "[::1]:80");
        let plain: HttpTarget = "http://[::1]:8080".parse().unwrap();
        assert_eq!((plain.address.as_str(), plain.path("/x").as_str()), ("[::1]:8080", "/x"));
    }

    #[test]
    fn what_is_no_http_url_is_refused() {
        for bad in ["https://example.net", "example.net:80", "ws://example.net", "http://a/?x=1", "/v1"] {
            assert!(bad.parse::<HttpTarget>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_port_that_is_none_is_refused_instead_of_port_80() {
        for bad in ["http://a:99999", "http://a:", "http://[::1]:65536/x"] {
            let said = bad.parse::<HttpTarget>().unwrap_err().to_string();
            assert_eq!(said, "the port is no number up to 65535", "{bad}");
        }
    }

    #[test]
    fn mqtt_targets_are_host_and_port() {
        let target: MqttTarget = "127.0.0.1:1883".parse().unwrap();
        assert_eq!((target.host.as_str(), target.port), ("127.0.0.1", 1883));
        for bad in ["localhost", ":1883", "mqtt://localhost:1883", "localhost:99999"] {
            assert!(bad.parse::<MqttTarget>().is_err(), "{bad}");
        }
    }

    #[test]
    fn of_several_addresses_the_one_with_a_server_is_taken() {
        let server = net::TcpListener::bind("127.0.0.1:0").unwrap();
        let open = server.local_addr().unwrap();
        let [one, two] = [1, 2].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        assert_eq!(first_open(&[one, open, two]), Some(open));
        assert_eq!(first_open(&[one, two]), Some(one));
        assert_eq!((first_open(&[two]), first_open(&[])), (Some(two), None));
    }
}
