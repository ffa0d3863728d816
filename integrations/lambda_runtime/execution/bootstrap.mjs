// The Node runtime client: loads a handler, then serves invocations one after the other from the Runtime API
// (AWS's "Lambda runtime API"). It follows AWS's own Node runtime: async and callback handlers, ES modules and
// CommonJS, the exit statuses 128 and 129, and an answer that waits for the event loop after a callback.
//
//   node bootstrap.mjs FILE HANDLER        with AWS_LAMBDA_RUNTIME_API=host:port

import http from "node:http";
import { pathToFileURL } from "node:url";

const [file, handlerName] = process.argv.slice(2);
const [host, port] = process.env.AWS_LAMBDA_RUNTIME_API.split(":");
const API = "/2018-06-01/runtime";
const ERROR_TYPE = "Lambda-Runtime-Function-Error-Type";
const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });

/** The request id of the invocation that runs; errors from nowhere are reported against it. */
let currentId = null;

function call(method, path, body, headers = {}) {
  const payload = body === undefined ? undefined : Buffer.from(body);
  if (payload) {
    headers = { "Content-Type": "application/json", "Content-Length": payload.length, ...headers };
  }
  return new Promise((resolve, reject) => {
    const request = http.request({ host, port, path: API + path, method, headers, agent }, (response) => {
      const chunks = [];
      response.on("data", (chunk) => chunks.push(chunk));
      response.on("end", () => resolve({ headers: response.headers, body: Buffer.concat(chunks) }));
      response.on("error", reject);
    });
    request.on("error", reject);
    request.end(payload);
  });
}

/** An error in the form that the Runtime API documents; anything may be thrown in JavaScript. */
function describe(error) {
  if (error instanceof Error || (error && error.name && error.message)) {
    return {
      errorType: String(error.name),
      errorMessage: String(error.message),
      trace: String(error.stack ?? "").split("\n"),
    };
  }
  return { errorType: typeof error, errorMessage: String(error), trace: [] };
}

async function reportError(path, label, error) {
  const described = describe(error);
  console.error(`${new Date().toISOString()}\t${currentId ?? "undefined"}\tERROR\t${label}\t${JSON.stringify(described)}`);
  // A header holds one line of Latin-1.
  const type = described.errorType.replace(/[^\w.-]/g, "") || "Error";
  await call("POST", path, JSON.stringify(described), { [ERROR_TYPE]: type });
}

class RuntimeError extends Error {
  constructor(name, message, cause) {
    super(message);
    this.name = `Runtime.${name}`;
    if (cause?.stack) this.stack = cause.stack;
  }
}

async function loadHandler() {
  let module;
  try {
    module = await import(pathToFileURL(file));
  } catch (error) {
    const isSyntax = error instanceof SyntaxError;
    const isMissing = error?.code === "ERR_MODULE_NOT_FOUND" || error?.code === "MODULE_NOT_FOUND";
    if (!isSyntax && !isMissing) throw error;
    throw new RuntimeError(isSyntax ? "UserCodeSyntaxError" : "ImportModuleError", `${error.name}: ${error.message}`, error);
  }
  // CommonJS exports are the default export of an imported module.
  const handler = module[handlerName] ?? module.default?.[handlerName];
  if (typeof handler !== "function") {
    const problem = handler === undefined ? "is undefined or not exported" : "is not a function";
    throw new RuntimeError("HandlerNotFound", `${handlerName} ${problem}`);
  }
  return handler;
}

function contextOf(headers) {
  const deadline = Number(headers["lambda-runtime-deadline-ms"]);
  return {
    callbackWaitsForEmptyEventLoop: true,
    functionName: process.env.AWS_LAMBDA_FUNCTION_NAME,
    functionVersion: process.env.AWS_LAMBDA_FUNCTION_VERSION,
    memoryLimitInMB: process.env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE,
    logGroupName: process.env.AWS_LAMBDA_LOG_GROUP_NAME,
    logStreamName: process.env.AWS_LAMBDA_LOG_STREAM_NAME,
    invokedFunctionArn: headers["lambda-runtime-invoked-function-arn"],
    awsRequestId: headers["lambda-runtime-aws-request-id"],
    getRemainingTimeInMillis: () => Math.max(0, deadline - Date.now()),
  };
}

function serialise(value) {
  try {
    return JSON.stringify(value === undefined ? null : value) ?? "null";
  } catch {
    throw new Error("Unable to stringify response body");
  }
}

/** Resolves to the handler's value in any style; an event loop that runs empty without an answer means null. */
function run(handler, event, context) {
  return new Promise((resolve, reject) => {
    const settled = (finish) => (value) => {
      process.removeAllListeners("beforeExit");
      finish(value);
    };
    const whenEmpty = (finish) => {
      process.removeAllListeners("beforeExit");
      process.once("beforeExit", finish);
    };
    whenEmpty(() => resolve(null));
    const callback = (error, value) => {
      if (error !== null && error !== undefined) settled(reject)(error);
      else if (context.callbackWaitsForEmptyEventLoop) whenEmpty(() => resolve(value));
      else settled(resolve)(value);
    };
    const result = handler(event, context, callback);
    if (typeof result?.then === "function") result.then(settled(resolve), settled(reject));
  });
}

async function serveOne(handler) {
  const { headers, body } = await call("GET", "/invocation/next");
  currentId = headers["lambda-runtime-aws-request-id"];
  process.env._X_AMZN_TRACE_ID = headers["lambda-runtime-trace-id"];
  const path = `/invocation/${currentId}`;
  let answer;
  try {
    answer = serialise(await run(handler, JSON.parse(body), contextOf(headers)));
  } catch (error) {
    await reportError(`${path}/error`, "Invoke Error", error);
    return;
  }
  await call("POST", `${path}/response`, answer);
}

/** What nobody caught ends the process, as at AWS: its state is not to be trusted any more. */
function exitOn(event, status, label, wrap) {
  process.on(event, (error) => {
    const path = currentId === null ? "/init/error" : `/invocation/${currentId}/error`;
    reportError(path, label, wrap(error)).finally(() => process.exit(status));
  });
}

exitOn("uncaughtException", 129, "Uncaught Exception", (error) => error);
exitOn("unhandledRejection", 128, "Unhandled Promise Rejection", (reason) =>
  new RuntimeError("UnhandledPromiseRejection", describe(reason).errorMessage, reason),
);

let handler;
try {
  handler = await loadHandler();
} catch (error) {
  await reportError("/init/error", "Uncaught Exception", error);
  process.exit(1);
}
for (;;) await serveOne(handler);
