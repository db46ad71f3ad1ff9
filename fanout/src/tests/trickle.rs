//! A viewer that takes less than comes: its frames are young, because it skips.

use super::{
    counted::value,
    harness::{PATIENCE, Stage, aggregate, config, recorded},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpSocket,
    time::timeout,
};

const FRAMES: u64 = 600;
/// Of every frame of some 270 bytes.
const BYTES_TAKEN: usize = 160;

/// The number of the last event of which the identifier has come, whole.
fn last_seq(came: &[u8]) -> Option<u64> {
    let text = String::from_utf8_lossy(came);
    let (_, event) = text.rsplit_once("id: ").filter(|(_, event)| event.contains('\n'))?;
    event.lines().next()?.rsplit_once('-')?.1.parse().ok()
}

#[tokio::test]
async fn the_frames_of_a_viewer_that_takes_less_than_comes_are_young() {
    for version in ["1.1", "1.0"] {
        let (handle, _recording) = recorded();
        let stage = Stage::start(config()).await;
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(1).unwrap();
        let mut stream = socket.connect(stage.address).await.unwrap();
        let request = format!("GET /v1/rooms/final/events HTTP/{version}\r\nHost: x\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let (mut came, mut oldest) = (Vec::new(), 0);
        for seq in 1..=FRAMES {
            stage.show(&aggregate("final", seq)).await;
            let mut bytes = [0; BYTES_TAKEN];
            let len = timeout(PATIENCE, stream.read(&mut bytes)).await.expect("nothing came").unwrap();
            assert!(len > 0, "it was closed");
            came.extend(&bytes[..len]);
            let seen = last_seq(&came).unwrap_or(seq);
            if seq > FRAMES / 2 {
                oldest = oldest.max(seq - seen);
            }
            came.drain(..came.len().saturating_sub(1_000));
        }
        let skipped = value(&handle, "uproar_fanout_frames_skipped_total{protocol=\"sse\"}");
        println!("HTTP/{version}: frames were up to {oldest} windows old, and {skipped} were skipped");
        assert!(oldest <= 20, "{oldest} windows old");
        assert!(skipped > FRAMES as f64 / 5.0, "{skipped} skipped");
    }
}
