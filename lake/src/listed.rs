//! Lists to which a file adds itself with one line.

/// A list of items of which each has a module of its own, and the modules. `make fmt` knows where they are: rustfmt does
/// not look for modules in macros.
macro_rules! listed {
    ($(#[$attribute:meta])* $visibility:vis static $list:ident: $type:ty = [$($module:ident::$item:ident),+ $(,)?];) => {
        $(mod $module;)+

        $(#[$attribute])*
        $visibility static $list: $type = &[$(&$module::$item),+];
    };
}
pub(crate) use listed;
