"""Documents of other providers: which of their parts are bound to which, and which are not."""
