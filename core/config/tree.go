package config

// index knows where each key stands.
type index map[string]Pos

func (x index) at(file, key string) Pos { return Pos{File: file} }
