"""`blazing-nb demo`: the interpreter's own standard library, parsed on workers, and a page that shows what happened."""
