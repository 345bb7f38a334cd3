/** The page's files and their hashes, as JSON; defined by build.mjs. */
declare const __FILES__: string;
