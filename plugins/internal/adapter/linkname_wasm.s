// This file has no code. Its presence lets the package declare functions without
// a body, which go:linkname needs: the compiler asks for bodies otherwise.
