// The real openai package for Node against the API without its gateway: prints "ok NAME" for each check.
import assert from "node:assert/strict";
import OpenAI from "openai";

const client = new OpenAI({ baseURL: `${process.argv[2]}/v1`, apiKey: "none", maxRetries: 0 });
const messages = [{ role: "user", content: "What is remote attestation?" }];
const usual = { model: "faq", messages, temperature: 0 };
const weather = {
  type: "function",
  function: {
    name: "weather",
    parameters: {
      type: "object",
      properties: { city: { enum: ["Rome", "Oslo"] } },
      required: ["city"],
      additionalProperties: false,
    },
  },
};

async function check(name, run) {
  await run();
  console.log(`ok ${name}`);
}

await check("models", async () => {
  const names = (await client.models.list()).data.map((model) => model.id);
  assert.equal(names[0], "faq");
});

await check("chat, whole and streamed", async () => {
  const whole = await client.chat.completions.create(usual);
  const stream = await client.chat.completions.create({
    ...usual, stream: true, stream_options: { include_usage: true },
  });
  let text = "";
  let usage = null;
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta?.content ?? "";
    usage = chunk.usage ?? usage;
  }
  assert.equal(text, whole.choices[0].message.content);
  assert.deepEqual(usage, whole.usage);
});

await check("choices, log-probabilities, stop", async () => {
  const answer = await client.chat.completions.create({
    ...usual, n: 2, logprobs: true, top_logprobs: 2, max_completion_tokens: 5,
  });
  assert.equal(answer.choices.length, 2);
  assert.equal(answer.choices[0].logprobs.content[0].top_logprobs.length, 2);
  const whole = await client.chat.completions.create(usual);
  const word = whole.choices[0].message.content.split(" ")[3];
  const cut = await client.chat.completions.create({ ...usual, stop: word });
  assert.ok(!cut.choices[0].message.content.includes(word));
});

await check("response_format", async () => {
  const schema = { type: "array", items: { enum: [1, 2] }, maxItems: 3 };
  const answer = await client.chat.completions.create({
    ...usual, response_format: { type: "json_schema", json_schema: { name: "numbers", schema, strict: true } },
  });
  assert.ok(Array.isArray(JSON.parse(answer.choices[0].message.content)));
});

await check("tools, whole and by the streaming helper", async () => {
  const fields = { ...usual, tools: [weather], tool_choice: "required", parallel_tool_calls: false };
  const answer = await client.chat.completions.create(fields);
  const [call] = answer.choices[0].message.tool_calls;
  assert.ok(["Rome", "Oslo"].includes(JSON.parse(call.function.arguments).city));
  const final = await client.chat.completions.stream(fields).finalChatCompletion();
  assert.equal(final.choices[0].message.tool_calls[0].function.name, "weather");
  const after = await client.chat.completions.create({
    ...usual,
    messages: [...messages, answer.choices[0].message, { role: "tool", tool_call_id: call.id, content: "sun" }],
    tools: [weather], tool_choice: "none", max_tokens: 4,
  });
  assert.ok(after.choices[0].message.content.length > 0);
});

await check("completions", async () => {
  const answer = await client.completions.create({
    model: "faq", prompt: ["Attestation", "A worker"], max_tokens: 4, temperature: 0, echo: true,
  });
  assert.ok(answer.choices[1].text.startsWith("A worker"));
});

if (process.argv[3]) await check("embeddings", async () => {
  for (const encoding_format of ["float", undefined]) {
    const answer = await client.embeddings.create({ model: process.argv[3], input: ["one", "two"], encoding_format });
    const [first] = answer.data.map((item) => item.embedding);
    assert.ok(Math.abs(Math.hypot(...first) - 1) < 1e-3);
  }
});

await check("errors", async () => {
  await assert.rejects(client.chat.completions.create({ ...usual, model: "other" }), OpenAI.NotFoundError);
  await assert.rejects(
    client.chat.completions.create({ ...usual, store: true }),
    (error) => error instanceof OpenAI.BadRequestError && error.param === "store",
  );
});
