// A viewer on mqtt.js: viewer.cjs URL TOPIC VERSION. Says "subscribed", then each message as a line: {"retain": …, "frame": …}.
const mqtt = require("mqtt");

const [url, topic, version] = process.argv.slice(2);
const fail = (why) => {
  console.error(String(why));
  process.exit(1);
};
const client = mqtt.connect(url, { protocolVersion: version === "5" ? 5 : 4, reconnectPeriod: 0, keepalive: 10 });
client.on("error", fail);
client.on("close", () => fail("the connection ended"));
client.on("message", (_, payload, packet) => {
  console.log(JSON.stringify({ retain: packet.retain, frame: JSON.parse(payload) }));
});
client.on("connect", () => {
  client.subscribe(topic, { qos: 1 }, (error, granted) => {
    if (error || granted.some(({ qos }) => qos >= 0x80)) fail(error || JSON.stringify(granted));
    console.log("subscribed");
  });
});
