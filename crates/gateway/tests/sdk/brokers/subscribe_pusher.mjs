// Listens to CHANNEL of a Pusher server on 127.0.0.1 and prints what comes, a JSON object per line.
// The packages are where NODE_PACKAGES says.
import { createRequire } from "node:module";

const module = createRequire(process.env.NODE_PACKAGES + "/")("pusher-js");
const Pusher = module.default ?? module;
const say = (what) => process.stdout.write(JSON.stringify(what) + "\n");

const port = Number(process.env.PORT);
const pusher = new Pusher("key1", {
  cluster: "none",
  wsHost: "127.0.0.1",
  wsPort: port,
  forceTLS: false,
  enabledTransports: ["ws"],
  enableStats: false,
});
pusher.connection.bind("error", (error) => process.stderr.write(JSON.stringify(error) + "\n"));
const channel = pusher.subscribe(process.env.CHANNEL);
channel.bind("pusher:subscription_succeeded", () => say({ what: "subscribed" }));
channel.bind_global((name, data) => {
  if (!name.startsWith("pusher:")) say({ what: "event", name, data });
});
