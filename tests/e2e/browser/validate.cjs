// Reads {"name": "html"} from stdin and prints what html-validate finds wrong by the HTML standard, as JSON.
const { HtmlValidate, StaticConfigLoader } = require("html-validate");

const validator = new HtmlValidate(new StaticConfigLoader({ extends: ["html-validate:standard"] }));

async function main() {
  let text = "";
  for await (const piece of process.stdin) text += piece;
  const faults = [];
  for (const [name, html] of Object.entries(JSON.parse(text))) {
    const report = await validator.validateString(html, name);
    for (const result of report.results) {
      for (const { ruleId, message, line, column } of result.messages) {
        faults.push({ name, rule: ruleId, message, line, column, text: html.split("\n")[line - 1].slice(0, 300) });
      }
    }
  }
  console.log(JSON.stringify(faults));
}

main();
