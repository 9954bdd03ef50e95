package codec

import "encoding/binary"

// AppendNil appends nil.
func AppendNil(dst []byte) []byte { return append(dst, tagNil) }

// AppendBool appends a bool.
func AppendBool(dst []byte, v bool) []byte {
	if v {
		return append(dst, tagTrue)
	}
	return append(dst, tagFalse)
}

// AppendUint appends an unsigned integer in its shortest form.
func AppendUint(dst []byte, v uint64) []byte {
	switch {
	case v < 1<<7:
		return append(dst, byte(v))
	case v < 1<<8:
		return append(dst, tagU8, byte(v))
	case v < 1<<16:
		return append(dst, tagU16, byte(v>>8), byte(v))
	case v < 1<<32:
		return binary.BigEndian.AppendUint32(append(dst, tagU32), uint32(v))
	}
	return binary.BigEndian.AppendUint64(append(dst, tagU64), v)
}

// AppendInt appends a signed integer in its shortest form.
func AppendInt(dst []byte, v int64) []byte {
	switch {
	case v >= 0:
		return AppendUint(dst, uint64(v))
	case v >= -1<<5:
		return append(dst, byte(v))
	case v >= -1<<7:
		return append(dst, tagI8, byte(v))
	case v >= -1<<15:
		return append(dst, tagI16, byte(v>>8), byte(v))
	case v >= -1<<31:
		return binary.BigEndian.AppendUint32(append(dst, tagI32), uint32(v))
	}
	return binary.BigEndian.AppendUint64(append(dst, tagI64), uint64(v))
}

// AppendStr appends a str. The caller vouches that s is valid UTF-8.
func AppendStr[T string | []byte](dst []byte, s T) []byte {
	switch n := len(s); {
	case n < 1<<5:
		dst = append(dst, fixStr|byte(n))
	case n < 1<<8:
		dst = append(dst, tagStr8, byte(n))
	case n < 1<<16:
		dst = append(dst, tagStr16, byte(n>>8), byte(n))
	default:
		dst = binary.BigEndian.AppendUint32(append(dst, tagStr32), uint32(n))
	}
	return append(dst, s...)
}

// AppendBin appends a bin.
func AppendBin(dst, b []byte) []byte { return append(AppendBinHeader(dst, len(b)), b...) }

// AppendBinHeader appends the head of a bin of n bytes, which the caller appends.
func AppendBinHeader(dst []byte, n int) []byte {
	switch {
	case n < 1<<8:
		return append(dst, tagBin8, byte(n))
	case n < 1<<16:
		return append(dst, tagBin16, byte(n>>8), byte(n))
	}
	return binary.BigEndian.AppendUint32(append(dst, tagBin32), uint32(n))
}

// AppendArray appends the head of an array of n values, which the caller appends.
func AppendArray(dst []byte, n int) []byte { return appendCount(dst, n, fixArray, tagArr16) }

// AppendMap appends the head of a map of n pairs, which the caller appends.
func AppendMap(dst []byte, n int) []byte { return appendCount(dst, n, fixMap, tagMap16) }

// appendCount appends a count; the 32-bit tag stands behind the 16-bit one.
func appendCount(dst []byte, n int, fix, tag16 byte) []byte {
	switch {
	case n < 1<<4:
		return append(dst, fix|byte(n))
	case n < 1<<16:
		return append(dst, tag16, byte(n>>8), byte(n))
	}
	return binary.BigEndian.AppendUint32(append(dst, tag16+1), uint32(n))
}
