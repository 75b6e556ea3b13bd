//! What a part of a request is compared with: strings, headers, paths, addresses.
