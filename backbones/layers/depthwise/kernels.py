"""Depthwise convolutions on tensor cores, in Triton. See `backbones.layers.depthwise.tiling` for the idea.

Only `backbones.layers.depthwise.launch` imports this module, and only where Triton is installed. Planes are contiguous
[B, C, H, W]; `transpose` makes them of ``channels_last``. Sums are in fp32, and none is taken by atomic additions:
the same call returns the same bits.

Names: A the source plane [HA, WA], O the target plane [HO, WO]; T tile, W window, O origin and A advance of
`tiling.Axis`; K, S, P, D kernel, stride, padding, dilation; Y and X are the vertical and the horizontal axis.
"""

import triton
import triton.language as tl


@triton.jit
def _taps(
    j, n, WX: tl.constexpr, TX: tl.constexpr, OY: tl.constexpr, OX: tl.constexpr,
    KH: tl.constexpr, KW: tl.constexpr, SY: tl.constexpr, SX: tl.constexpr,
    PY: tl.constexpr, PX: tl.constexpr, DY: tl.constexpr, DX: tl.constexpr, TRANSPOSED: tl.constexpr,
):  # fmt: skip
    """The tap by which window pixels [J] reach tile pixels [N], and whether there is one, both [J, N]."""
    jy, jx, ny, nx = j // WX + OY, j % WX + OX, n // TX, n % TX
    if TRANSPOSED:
        ky = (PY - SY * jy)[:, None] + ny[None, :]
        kx = (PX - SX * jx)[:, None] + nx[None, :]
    else:
        ky = (PY + jy)[:, None] - (SY * ny)[None, :]
        kx = (PX + jx)[:, None] - (SX * nx)[None, :]
    is_tap = (ky >= 0) & (ky < DY * KH) & (kx >= 0) & (kx < DX * KW)
    if DY > 1:
        is_tap = is_tap & (ky % DY == 0)
        ky = ky // DY
    if DX > 1:
        is_tap = is_tap & (kx % DX == 0)
        kx = kx // DX
    return ky * KW + kx, is_tap


@triton.jit
def _load_windows(
    a, c, chs, m, rows, j, HA: tl.constexpr, WA: tl.constexpr, TILES: tl.constexpr, TILES_X: tl.constexpr,
    WY: tl.constexpr, WX: tl.constexpr, OY: tl.constexpr, OX: tl.constexpr, AY: tl.constexpr, AX: tl.constexpr,
):  # fmt: skip
    """Source pixels [M, J] of the rows m and the window pixels j; zero beyond the plane."""
    inside = (m < rows)[:, None] & (j < WY * WX)[None, :]
    if TILES == 1 and WX == WA:  # Rows of the window follow one another in memory.
        offset = (m * (chs * (HA * WA)))[:, None] + (OY * WA + j)[None, :]
    else:
        b, t = m // TILES, m % TILES
        y = (t // TILES_X * AY + OY)[:, None] + (j // WX)[None, :]
        x = (t % TILES_X * AX + OX)[:, None] + (j % WX)[None, :]
        inside = inside & (y >= 0) & (y < HA) & (x >= 0) & (x < WA)
        offset = (b * (chs * (HA * WA)))[:, None] + y * WA + x
    return tl.load(a + c * (HA * WA) + offset, mask=inside, other=0.0)


@triton.jit
def _tile_pixels(
    c, chs, m, rows, n, HO: tl.constexpr, WO: tl.constexpr, TILES: tl.constexpr, TILES_X: tl.constexpr,
    TY: tl.constexpr, TX: tl.constexpr,
):  # fmt: skip
    """Offsets of target pixels [M, N] of the rows m and the tile pixels n, and whether they lie in the plane."""
    inside = (m < rows)[:, None] & (n < TY * TX)[None, :]
    if TILES == 1:
        offset = (m * (chs * (HO * WO)))[:, None] + n[None, :]
    else:
        b, t = m // TILES, m % TILES
        y = (t // TILES_X * TY)[:, None] + (n // TX)[None, :]
        x = (t % TILES_X * TX)[:, None] + (n % TX)[None, :]
        inside = inside & (y < HO) & (x < WO)
        offset = (b * (chs * (HO * WO)))[:, None] + y * WO + x
    return c * (HO * WO) + offset, inside


@triton.jit
def _dot(a, b, acc, PRECISION: tl.constexpr):
    """a @ b + acc in fp32. Triton's interpreter cannot multiply bf16: there the operands are fp32 of the same value."""
    if PRECISION == 'interpreted':
        acc = tl.dot(a.to(tl.float32), b.to(tl.float32), acc, input_precision='ieee')
    else:
        acc = tl.dot(a, b, acc, input_precision=PRECISION)
    return acc


@triton.jit
def convolve(
    a, weight, bias, out, rows, chs,
    HA: tl.constexpr, WA: tl.constexpr, HO: tl.constexpr, WO: tl.constexpr,
    TILES: tl.constexpr, TILES_X: tl.constexpr, TY: tl.constexpr, TX: tl.constexpr,
    WY: tl.constexpr, WX: tl.constexpr, OY: tl.constexpr, OX: tl.constexpr, AY: tl.constexpr, AX: tl.constexpr,
    KH: tl.constexpr, KW: tl.constexpr, SY: tl.constexpr, SX: tl.constexpr,
    PY: tl.constexpr, PX: tl.constexpr, DY: tl.constexpr, DX: tl.constexpr,
    TRANSPOSED: tl.constexpr, HAS_BIAS: tl.constexpr, PRECISION: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """The convolution, or with ``TRANSPOSED`` its input gradient: ``out[m, n] = Σ_j a[m, j] · T[j, n]``.

    A program makes BM rows by BN tile pixels of one channel. Its part of T is gathered from the kernel, which stays in
    the first-level cache; rows of the window that no pixel of the program sees are left out.
    """
    BLOCKS: tl.constexpr = (TY * TX + BN - 1) // BN
    c = tl.program_id(0) // BLOCKS
    first = tl.program_id(0) % BLOCKS * BN
    m = tl.program_id(1) * BM + tl.arange(0, BM)
    n = first + tl.arange(0, BN)
    top, bottom = first // TX, tl.minimum(first + BN - 1, TY * TX - 1) // TX
    if TRANSPOSED:
        low, high = (top + PY - DY * (KH - 1)) // SY - OY, (bottom + PY) // SY - OY
    else:
        low, high = SY * top - PY - OY, SY * bottom + DY * (KH - 1) - PY - OY
    low = tl.maximum(low, 0) * WX // BK * BK
    high = tl.minimum(high + 1, WY) * WX
    acc = tl.zeros((BM, BN), dtype=tl.float32)
    for start in range(low, high, BK):
        j = start + tl.arange(0, BK)
        windows = _load_windows(a, c, chs, m, rows, j, HA, WA, TILES, TILES_X, WY, WX, OY, OX, AY, AX)
        tap, is_tap = _taps(j, n, WX, TX, OY, OX, KH, KW, SY, SX, PY, PX, DY, DX, TRANSPOSED)
        is_tap = is_tap & (j < WY * WX)[:, None]
        band = tl.load(weight + c * (KH * KW) + tap, mask=is_tap, other=0.0).to(windows.dtype)
        acc = _dot(windows, band, acc, PRECISION)
    if HAS_BIAS:
        acc += tl.load(bias + c).to(tl.float32)
    offset, inside = _tile_pixels(c, chs, m, rows, n, HO, WO, TILES, TILES_X, TY, TX)
    tl.store(out + offset, acc.to(out.dtype.element_ty), mask=inside)


@triton.jit
def correlate(
    a, grad, parts, rows, chs, rows_each,
    HA: tl.constexpr, WA: tl.constexpr, HO: tl.constexpr, WO: tl.constexpr,
    TILES: tl.constexpr, TILES_X: tl.constexpr, TY: tl.constexpr, TX: tl.constexpr,
    WY: tl.constexpr, WX: tl.constexpr, OY: tl.constexpr, OX: tl.constexpr, AY: tl.constexpr, AX: tl.constexpr,
    KH: tl.constexpr, KW: tl.constexpr, SY: tl.constexpr, SX: tl.constexpr,
    PY: tl.constexpr, PX: tl.constexpr, DY: tl.constexpr, DX: tl.constexpr, PRECISION: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """First half of the weight gradient: ``parts[c, split, n, tap] = Σ_m a[m, j(n, tap)] · grad[m, n]``.

    A program makes BM window pixels by BN tile pixels of one channel, summed over the rows of one split. Elements that
    belong to no tap are dropped; those of `parts` whose window pixel is outside the window are not written.
    """
    BLOCKS_M: tl.constexpr = (WY * WX + BM - 1) // BM
    BLOCKS_N: tl.constexpr = (TY * TX + BN - 1) // BN
    c = tl.program_id(0) // (BLOCKS_M * BLOCKS_N)
    block = tl.program_id(0) % (BLOCKS_M * BLOCKS_N)
    split = tl.program_id(1)
    first_j, first_n = block // BLOCKS_N * BM, block % BLOCKS_N * BN
    j, n = first_j + tl.arange(0, BM), first_n + tl.arange(0, BN)
    # Rows of the window that these tile pixels see.
    low = SY * (first_n // TX) - PY - OY
    high = SY * (tl.minimum(first_n + BN - 1, TY * TX - 1) // TX) + DY * (KH - 1) - PY - OY
    if (first_j // WX <= high) & ((first_j + BM - 1) // WX >= low):
        acc = tl.zeros((BM, BN), dtype=tl.float32)
        for start in range(split * rows_each, tl.minimum((split + 1) * rows_each, rows), BK):
            m = start + tl.arange(0, BK)
            windows = _load_windows(a, c, chs, m, rows, j, HA, WA, TILES, TILES_X, WY, WX, OY, OX, AY, AX)
            offset, inside = _tile_pixels(c, chs, m, rows, n, HO, WO, TILES, TILES_X, TY, TX)
            tile = tl.load(grad + offset, mask=inside, other=0.0)
            acc = _dot(tl.trans(windows), tile, acc, PRECISION)
        tap, is_tap = _taps(j, n, WX, TX, OY, OX, KH, KW, SY, SX, PY, PX, DY, DX, False)
        is_tap = is_tap & (j < WY * WX)[:, None] & (n < TY * TX)[None, :]
        place = (c * tl.num_programs(1) + split).to(tl.int64) * (TY * TX * KH * KW)
        tl.store(parts + place + (n * (KH * KW))[None, :] + tap, acc, mask=is_tap)


@triton.jit
def sum_parts(
    parts, out, splits,
    TY: tl.constexpr, TX: tl.constexpr, WY: tl.constexpr, WX: tl.constexpr, OY: tl.constexpr, OX: tl.constexpr,
    KH: tl.constexpr, KW: tl.constexpr, SY: tl.constexpr, SX: tl.constexpr,
    PY: tl.constexpr, PX: tl.constexpr, DY: tl.constexpr, DX: tl.constexpr,
    BR: tl.constexpr, TAPS: tl.constexpr,
):  # fmt: skip
    """Second half: sum over splits and tile pixels what `correlate` has written, TAPS ≥ KH·KW at once."""
    c = tl.program_id(0).to(tl.int64)
    tap = tl.arange(0, TAPS)
    acc = tl.zeros((BR, TAPS), dtype=tl.float32)
    for start in range(0, splits * (TY * TX), BR):
        r = start + tl.arange(0, BR)
        n = r % (TY * TX)
        y = (SY * (n // TX) - PY - OY)[:, None] + (DY * (tap // KW))[None, :]
        x = (SX * (n % TX) - PX - OX)[:, None] + (DX * (tap % KW))[None, :]
        written = (y >= 0) & (y < WY) & (x >= 0) & (x < WX)
        written = written & (r < splits * (TY * TX))[:, None] & (tap < KH * KW)[None, :]
        place = c * splits * (TY * TX * KH * KW) + (r * (KH * KW))[:, None] + tap[None, :]
        acc += tl.load(parts + place, mask=written, other=0.0)
    tl.store(out + c * (KH * KW) + tap, tl.sum(acc, axis=0).to(out.dtype.element_ty), mask=tap < KH * KW)


@triton.jit
def transpose(a, out, ROWS, COLS, BR: tl.constexpr, BC: tl.constexpr):
    """Matrices [B, ROWS, COLS] to [B, COLS, ROWS]: planes of ``channels_last``, and back."""
    base = tl.program_id(2).to(tl.int64) * ROWS * COLS
    r = tl.program_id(1) * BR + tl.arange(0, BR)
    c = tl.program_id(0) * BC + tl.arange(0, BC)
    inside = (r < ROWS)[:, None] & (c < COLS)[None, :]
    block = tl.load(a + base + (r * COLS)[:, None] + c[None, :], mask=inside)
    tl.store(out + base + (c * ROWS)[:, None] + r[None, :], tl.trans(block), mask=tl.trans(inside))


@triton.jit
def convolve_directly(
    a, weight, bias, out, pixels, chs,
    HA: tl.constexpr, WA: tl.constexpr, HO: tl.constexpr, WO: tl.constexpr,
    KH: tl.constexpr, KW: tl.constexpr, SY: tl.constexpr, SX: tl.constexpr,
    PY: tl.constexpr, PX: tl.constexpr, DY: tl.constexpr, DX: tl.constexpr,
    TRANSPOSED: tl.constexpr, HAS_BIAS: tl.constexpr, BP: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """The convolution, or its input gradient, tap by tap in ``channels_last``: BP target pixels by BC channels.

    `weight` is [KH·KW, C] here.
    """
    blocks = tl.cdiv(chs, BC)
    c = tl.program_id(0) % blocks * BC + tl.arange(0, BC)
    p = tl.program_id(0) // blocks * BP + tl.arange(0, BP)
    is_chs = (c < chs)[None, :]
    b, y, x = p // (HO * WO), p // WO % HO, p % WO
    acc = tl.zeros((BP, BC), dtype=tl.float32)
    for ky in range(KH):
        for kx in tl.static_range(KW):
            if TRANSPOSED:
                ay, ax = y + PY - DY * ky, x + PX - DX * kx
                inside = (p < pixels) & (ay >= 0) & (ax >= 0) & (ay % SY == 0) & (ax % SX == 0)
                ay, ax = ay // SY, ax // SX
                inside = inside & (ay < HA) & (ax < WA)
            else:
                ay, ax = SY * y - PY + DY * ky, SX * x - PX + DX * kx
                inside = (p < pixels) & (ay >= 0) & (ay < HA) & (ax >= 0) & (ax < WA)
            offset = ((b * HA + ay) * WA + ax) * chs
            value = tl.load(a + offset[:, None] + c[None, :], mask=inside[:, None] & is_chs, other=0.0)
            w = tl.load(weight + (ky * KW + kx) * chs + c, mask=c < chs, other=0.0).to(tl.float32)
            acc += value.to(tl.float32) * w[None, :]
    if HAS_BIAS:
        acc += tl.load(bias + c, mask=c < chs, other=0.0).to(tl.float32)[None, :]
    inside = (p < pixels)[:, None] & is_chs
    tl.store(out + (p * chs)[:, None] + c[None, :], acc.to(out.dtype.element_ty), mask=inside)
