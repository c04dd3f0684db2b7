# A launch is the one thing in a kernel's file that a C++ compiler cannot read; a lambda takes its
# place. For sed -zE.
s/([A-Za-z_][A-Za-z_0-9]*(<[^<>;(){}]*>)?)[ \n]*<<<([^;{}]*)>>>[ \n]*\(([^;{}]*)\);/emulator_launch(\3, [=] { \1(\4); });/g
