// @ts-check
/**
 * The shapes that the modules share.
 *
 * @typedef {"queued" | "sending" | "held" | "refused" | "published"} State
 * queued: waits for a connection. sending: the server has it, no verdict yet. held: waits for a moderator.
 * refused: will not be published, `reason` says why. published: everybody has it.
 *
 * @typedef {{url: string, alt: string, width?: number, height?: number}} Embed
 *
 * @typedef {Object} Item One message as the page knows it. Never changed in place: a change is a new object.
 * @property {string} key The same for the life of the item; its element in the page is found by it.
 * @property {string} id The message's id, chosen by its author.
 * @property {string} serial Its place in the room, "" until it has one. Serials of a room sort as text.
 * @property {string} version Serial of its latest version.
 * @property {string} clientId
 * @property {string} text
 * @property {Embed[]} embeds
 * @property {number} timestamp Milliseconds since the epoch.
 * @property {boolean} edited
 * @property {boolean} removed
 * @property {State} state
 * @property {string} reason Why it was refused, for its author.
 * @property {boolean} retry Whether the same message may be sent once more.
 * @property {boolean} adjusted Whether the room's rules changed what the author, sitting here, typed.
 *
 * @typedef {Object} WireMessage What the SDK hands over, as far as we read it.
 * @property {string} [id]
 * @property {string} [serial]
 * @property {string} [clientId]
 * @property {string} [name]
 * @property {unknown} [data]
 * @property {any} [extras]
 * @property {number} [timestamp]
 * @property {string} [action]
 * @property {{serial?: string, timestamp?: number}} [version]
 *
 * @typedef {"connecting" | "live" | "offline" | "suspended" | "failed"} Link
 *
 * @typedef {Object} LinkState State of the connection and of the room on it.
 * @property {Link} link
 * @property {number} retryAt When the next attempt starts (milliseconds since the epoch), 0 if unknown.
 * @property {string} reason What a person may want to know about a failure.
 * @property {boolean} signedOut Whether signing in again is what helps.
 */

export {};
