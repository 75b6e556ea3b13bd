//! Orders, through the service's own interface.
