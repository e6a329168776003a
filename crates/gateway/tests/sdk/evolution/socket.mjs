// A real client of Socket.IO, told on standard input what to do, a JSON object per line; what happens
// is written the same way. The packages are where NODE_PACKAGES says.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const { io } = createRequire(process.env.NODE_PACKAGES + "/")("socket.io-client");

const sockets = new Map();
const say = (what) => process.stdout.write(JSON.stringify(what) + "\n");

const doings = {
  // Joins a namespace; with `hold`, events are acknowledged only when told.
  join({ name, url, options, hold }) {
    const socket = io(url, { reconnectionDelay: 50, reconnectionDelayMax: 200, ...options });
    const held = [];
    sockets.set(name, { socket, held });
    socket.on("connect", () =>
      say({
        what: "connect",
        name,
        recovered: socket.recovered === true,
        transport: socket.io.engine.transport.name,
      }),
    );
    socket.on("connect_error", (error) =>
      say({ what: "connect_error", name, message: error.message, code: error.context?.status }),
    );
    socket.on("disconnect", (reason) => say({ what: "disconnect", name, reason }));
    socket.io.on("open", () =>
      socket.io.engine.on("upgrade", (transport) =>
        say({ what: "upgrade", name, transport: transport.name }),
      ),
    );
    socket.onAny((event, ...args) => {
      const answer = typeof args.at(-1) === "function" ? args.pop() : undefined;
      say({ what: "event", name, event, args, asked: answer !== undefined });
      if (answer && hold) held.push(answer);
      else if (answer) answer();
    });
  },
  acknowledge({ name }) {
    sockets.get(name).held.splice(0).forEach((answer) => answer());
  },
  say({ name, args }) {
    sockets.get(name).socket.emit(...args);
  },
  leave({ name }) {
    sockets.get(name).socket.disconnect();
  },
  // As when the network goes.
  cut({ name }) {
    sockets.get(name).socket.io.engine.close();
  },
  // Reads nothing for a while.
  stall({ name }) {
    sockets.get(name).socket.io.engine.transport.ws._socket.pause();
    say({ what: "stalled", name });
  },
  go_on({ name }) {
    sockets.get(name).socket.io.engine.transport.ws._socket.resume();
  },
};

createInterface({ input: process.stdin })
  .on("line", (line) => {
    const told = JSON.parse(line);
    doings[told.do](told);
  })
  .on("close", () => process.exit(0));
