const [[, sum], numbers] = require("fs").readFileSync(0, "utf8").split("\n").map((line) => line.split(" ").map(Number));
const seen = new Set();
let pairs = 0;
for (const number of numbers) {
  if (seen.has(sum - number)) pairs++;
  seen.add(number);
}
console.log(pairs);
