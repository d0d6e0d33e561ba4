package handover

import (
	"encoding/binary"
	"hash/crc32"
)

// For the fuzz targets.
var (
	ReadFrame  = readFrame
	WriteFrame = writeFrame
)

// Reseal makes a state of whatever body.
func Reseal(body []byte) []byte {
	b := append(make([]byte, sealHead), body...)
	copy(b, sealMagic)
	binary.BigEndian.PutUint32(b[8:], StateVersion)
	binary.BigEndian.PutUint32(b[12:], uint32(len(body)))
	binary.BigEndian.PutUint32(b[16:], crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)))
	return b
}
