// What JavaScript programs usually need of their surroundings.
const { Worker, isMainThread, parentPort } = require("worker_threads");
const fs = require("fs");
const os = require("os");
const { spawnSync } = require("child_process");

async function main() {
    console.log("cpus", os.cpus().length > 0);
    console.log("memory", os.totalmem(), os.freemem());
    console.log("user", os.userInfo().username, os.homedir());
    console.log("load", os.loadavg().join());
    console.log("address", (await require("dns").promises.lookup("localhost", 4)).address);
    const directory = fs.mkdtempSync(os.tmpdir() + "/a");
    fs.writeFileSync(directory + "/f", "x");
    console.log("file", fs.readFileSync(directory + "/f", "utf8"));
    console.log("child", spawnSync("sh", ["-c", "exit 5"]).status);
    const worker = new Worker(__filename);
    worker.on("message", (message) => console.log("worker", message));
}

if (isMainThread) main();
else parentPort.postMessage(42);
