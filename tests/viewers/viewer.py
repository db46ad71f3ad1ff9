"""A viewer on paho-mqtt. Says "subscribed", then each message as a line: {"retain": …, "frame": …}."""

import argparse
import json
import sys

import paho.mqtt.client as mqtt

parser = argparse.ArgumentParser()
parser.add_argument("host")
parser.add_argument("port", type=int)
parser.add_argument("topic")
parser.add_argument("--transport", choices=["tcp", "websockets"], required=True)
parser.add_argument("--version", choices=["3.1.1", "5"], required=True)
arguments = parser.parse_args()


def say(text):
    print(text, flush=True)


def connected(client, userdata, flags, reason, properties):
    if reason.is_failure:
        sys.exit(f"refused: {reason}")
    client.subscribe(arguments.topic, qos=1)


def subscribed(client, userdata, mid, reasons, properties):
    if any(reason.is_failure for reason in reasons):
        sys.exit(f"subscription refused: {reasons}")
    say("subscribed")


def message(client, userdata, message):
    say(json.dumps({"retain": message.retain, "frame": json.loads(message.payload)}))


client = mqtt.Client(
    mqtt.CallbackAPIVersion.VERSION2,
    protocol=mqtt.MQTTv5 if arguments.version == "5" else mqtt.MQTTv311,
    transport=arguments.transport,
)
client.ws_set_options(path="/mqtt")
client.on_connect = connected
client.on_subscribe = subscribed
client.on_message = message
client.connect(arguments.host, arguments.port, keepalive=10)
client.loop_forever()
