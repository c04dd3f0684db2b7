#!/usr/bin/env python3
"""Fits the polynomials of src/base/philox.h and src/base/math32.h.

Chebyshev interpolation of the smooth factor at 60 digits, then rounding of the coefficients to
fp32. Prints each polynomial's coefficients as C hexadecimal floats and the error that the rounded
coefficients have in exact arithmetic. Needs mpmath.
"""
import mpmath as mp
import numpy as np

mp.mp.dps = 60


def chebyshev_fit(function, low, high, degree):
    """Coefficients c[0..degree] of sum c[i] x^i that interpolates at Chebyshev nodes."""
    nodes = [
        (low + high) / 2 + (high - low) / 2 * mp.cos(mp.pi * (2 * k + 1) / (2 * degree + 2))
        for k in range(degree + 1)
    ]
    matrix = mp.matrix(degree + 1, degree + 1)
    right = mp.matrix(degree + 1, 1)
    for row, x in enumerate(nodes):
        for column in range(degree + 1):
            matrix[row, column] = x**column
        right[row] = function(x)
    return list(mp.lu_solve(matrix, right))


def report(name, coefficients, truth, approximation, low, high):
    rounded = [float(np.float32(float(c))) for c in coefficients]
    worst = 0
    for i in range(4001):
        x = low + (high - low) * i / 4000
        exact = truth(x)
        if exact != 0:
            worst = max(worst, abs((approximation(rounded, x) - exact) / exact))
    print(f"{name}: relative error {mp.nstr(worst * 2**24, 4)} units of 2^-24")
    for power, value in enumerate(rounded):
        print(f"  x^{power}: {value.hex()}f")


def horner(coefficients, x):
    total = mp.mpf(0)
    for c in reversed(coefficients):
        total = total * x + c
    return total


def main():
    low, high = mp.sqrt(mp.mpf(1) / 2) - 1, mp.sqrt(2) - 1
    factor = lambda f: (mp.log1p(f) - f + f * f / 2) / f**3 if f != 0 else mp.mpf(1) / 3
    log_fit = chebyshev_fit(factor, low, high, 7)
    report("log1p(f) = f - f^2/2 + f^3 P(f)", log_fit, mp.log1p,
           lambda c, f: f - f * f / 2 + f**3 * horner(c, f), low, high)

    quarter = mp.mpf(1) / 4  # square of the largest |t|
    sine = lambda s: mp.sin(mp.pi / 2 * mp.sqrt(s)) / mp.sqrt(s) if s != 0 else mp.pi / 2
    cosine = lambda s: mp.cos(mp.pi / 2 * mp.sqrt(s))
    report("sin(pi/2 t) = t S(t^2)", chebyshev_fit(sine, mp.mpf(0), quarter, 3),
           lambda t: mp.sin(mp.pi / 2 * t), lambda c, t: t * horner(c, t * t),
           mp.mpf("1e-6"), mp.mpf("0.5"))
    report("cos(pi/2 t) = C(t^2)", chebyshev_fit(cosine, mp.mpf(0), quarter, 4),
           lambda t: mp.cos(mp.pi / 2 * t), lambda c, t: horner(c, t * t),
           mp.mpf("1e-6"), mp.mpf("0.5"))

    half = mp.log(2) / 2
    exp_factor = lambda r: (mp.expm1(r) - r) / r**2 if r != 0 else mp.mpf(1) / 2
    # A node at exactly 0 would lose all digits: the interval is a little off centre.
    exp_fit = chebyshev_fit(exp_factor, -half, half * mp.mpf("1.001"), 4)
    report("exp(r) = 1 + r + r^2 E(r)", exp_fit, mp.exp,
           lambda c, r: 1 + r + r * r * horner(c, r), -half, half)

    # P(normal > a) = e^(-a^2 / 2) T(q) / (1 + a), q = (a - 3) / (a + 3), up to where e^ is 0.
    end = mp.mpf("13.2")
    distance = lambda q: 3 * (1 + q) / (1 - q)
    tail = lambda a: mp.erfc(a / mp.sqrt(2)) / 2 * mp.exp(a * a / 2)
    tail_fit = chebyshev_fit(lambda q: (1 + distance(q)) * tail(distance(q)), mp.mpf(-1),
                             (end - 3) / (end + 3), 10)
    report("T(q), next to a", tail_fit, tail, lambda c, a: horner(c, (a - 3) / (a + 3)) / (1 + a),
           mp.mpf(0), end)


if __name__ == "__main__":
    main()
